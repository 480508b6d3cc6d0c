//! The example of a whole stack: cfn-lint has nothing to say, moto makes it, and its hosts get our user data.

use std::path::Path;
use std::process::Command;

const CONFIG_BEGINS: &str = "<<'MAPKEEPER'\n";
const CONFIG_ENDS: &str = "\nMAPKEEPER\n";

#[test]
fn the_stack_can_be_made_and_its_hosts_boot_by_our_user_data() {
    let scratch = tempfile::tempdir().expect("a directory");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = scratch.path().join("user-data");
    let output = Command::new(package.join("tests/support/stack")).arg(&file).output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let data = std::fs::read_to_string(&file).expect("user data");
    let (head, rest) = data.split_once(CONFIG_BEGINS).expect("a configuration");
    let (config, tail) = rest.split_once(CONFIG_ENDS).expect("its end");
    // Beside the configuration it is ours, word for word.
    let ours = std::fs::read_to_string(package.join("cloud-init/user-data.sh")).expect("readable");
    let ours = ours.replace("@URL@", "https://example.com/mapkeeper").replace("@SHA256@", &"0".repeat(64));
    let (our_head, our_tail) = ours.split_once("@CONFIG@").expect("a place");
    assert_eq!(format!("{head}{CONFIG_BEGINS}"), our_head);
    assert_eq!(format!("\nMAPKEEPER\n{tail}").trim_end(), our_tail.trim_end());
    let toml = scratch.path().join("config.toml");
    std::fs::write(&toml, config).expect("written");
    let mut check = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
    let output = check.args(["config", "check", "--config"]).arg(&toml).output().expect("started");
    println!("{config}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(data.len() < 16 * 1024);
}
