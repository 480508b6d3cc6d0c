//! The block of `/etc/ecs/ecs.config` that is ours. Everything else in that file is somebody else's and stays.
//!
//! What must hold: the block is there once however often it is written; a line of somebody else is never changed. Of
//! two lines with the same name the ECS agent takes the last one, so a foreign line behind ours is told.

use crate::config::Config;

const BEGIN: &str = "# BEGIN mapkeeper (written by `mapkeeper bootstrap`, change it there)";
const END: &str = "# END mapkeeper";

/// Memory that the agent needs beside the caches of its mounts.
const BASE_MIB: u64 = 64;

/// The lines of the block: what the configuration says, and what suits a host that serves maps.
pub(super) fn lines(config: &Config) -> Vec<String> {
    let Some(ecs) = &config.ecs else { return Vec::new() };
    let caches: u64 = config.mounts.iter().map(|mount| mount.memory.div_ceil(1 << 20)).sum();
    let mut lines = vec![
        format!("ECS_CLUSTER={}", ecs.cluster),
        format!("ECS_RESERVED_MEMORY={}", caches.saturating_add(BASE_MIB)),
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true".to_owned(),
        "ECS_IMAGE_PULL_BEHAVIOR=prefer-cached".to_owned(),
    ];
    if !ecs.attributes.is_empty() {
        let attributes = serde_json::to_string(&ecs.attributes).expect("texts are JSON");
        lines.insert(1, format!("ECS_INSTANCE_ATTRIBUTES={attributes}"));
    }
    if config.bootstrap.block_imds {
        lines.push("ECS_AWSVPC_BLOCK_IMDS=true".to_owned());
    }
    lines
}

/// `text` with the block saying `lines`; without it when there are none.
pub(super) fn merged(text: &str, lines: &[String]) -> String {
    let block: String = match lines {
        [] => String::new(),
        lines => format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")),
    };
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let is_begin = |line: &str| line.starts_with("# BEGIN mapkeeper");
    let (mut out, mut placed, mut next) = (String::new(), false, 0);
    while let Some(line) = all.get(next) {
        // A block whose end is lost is no block: what follows it may be anybody's.
        let rest = all.get(next + 1..).unwrap_or_default();
        let length = rest.iter().take_while(|line| !is_begin(line)).position(|line| line.trim_end() == END);
        match length.filter(|_| is_begin(line)) {
            Some(length) => {
                next += length + 2;
                if !placed {
                    out.push_str(&block);
                    placed = true;
                }
            }
            None => {
                next += 1;
                out.push_str(line);
            }
        }
    }
    if !placed && !block.is_empty() {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&block);
    }
    out
}

/// The names that ours set and that somebody else's lines set as well.
pub(super) fn also_foreign(text: &str, lines: &[String]) -> Vec<String> {
    let without_ours = merged(text, &[]);
    let name = |line: &str| line.split_once('=').map(|(name, _)| name.trim().to_owned());
    let foreign: Vec<String> =
        without_ours.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(name).collect();
    lines.iter().filter_map(|line| name(line)).filter(|ours| foreign.contains(ours)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines() -> Vec<String> {
        vec!["ECS_CLUSTER=maps".to_owned(), "ECS_RESERVED_MEMORY=192".to_owned()]
    }

    #[test]
    fn the_block_comes_once_and_foreign_lines_stay() {
        let foreign = "ECS_LOGLEVEL=debug\n# a comment\nECS_CLUSTER=old";
        let once = merged(foreign, &lines());
        assert!(
            once.starts_with("ECS_LOGLEVEL=debug\n# a comment\nECS_CLUSTER=old\n# BEGIN mapkeeper"),
            "{once}"
        );
        assert!(once.ends_with("ECS_CLUSTER=maps\nECS_RESERVED_MEMORY=192\n# END mapkeeper\n"), "{once}");
        assert_eq!(merged(&once, &lines()), once);
        assert_eq!(also_foreign(&once, &lines()), ["ECS_CLUSTER"]);
        assert_eq!(merged(&once, &[]), format!("{foreign}\n"));
    }

    #[test]
    fn a_changed_block_is_replaced_where_it_stands() {
        let before = merged("A=1\n", &lines()) + "B=2\n";
        let after = merged(&before, &["ECS_CLUSTER=other".to_owned()]);
        assert_eq!(after, format!("A=1\n{BEGIN}\nECS_CLUSTER=other\n{END}\nB=2\n"));
    }

    #[test]
    fn a_block_whose_end_is_lost_swallows_nothing() {
        let text = "# BEGIN mapkeeper\nECS_CLUSTER=maps\nB=2\n";
        assert!(merged(text, &lines()).starts_with(text));
    }

    proptest! {
        #[test]
        fn writing_twice_is_writing_once(text in "([A-Z#= \n]|\n# BEGIN mapkeeper\n|\n# BEGIN mapkeeper\nX=1\n# END mapkeeper\n){0,20}") {
            let once = merged(&text, &lines());
            prop_assert_eq!(merged(&once, &lines()), once.clone());
            prop_assert_eq!(once.matches(BEGIN).count(), 1);
        }
    }
}
