//! Settings from the command line: `--set mount[0].freshness=5s`, or with dots only, `mount.0.freshness=5s`.

use super::super::fault::{Expected, Fault};
use super::key_syntax::plain;
use super::layer::Layer;
use super::origin::Origin;

impl Layer {
    /// The settings in `--set KEY=VALUE`.
    pub fn flags(flags: &[String]) -> Layer {
        let mut layer = Layer::default();
        for flag in flags {
            let Some((name, value)) = flag.split_once('=') else {
                let origin = Origin::Flag { name: flag.clone() };
                let expected = Expected::fixed("KEY=VALUE such as mount[0].freshness=5s");
                layer.fault(Fault::new(Some(origin), "", expected.into()));
                continue;
            };
            let dotted = name.trim().replace('[', ".").replace(']', "");
            let found = plain(".").path_or_fault(&dotted);
            layer.set_found(found, value.trim(), Origin::Flag { name: name.trim().to_owned() });
        }
        layer
    }
}
