//! `mapkeeper explain`: eight maps, each broken in one way, and the first wrong link that is named.
//!
//! Everything is real: FUSE through the kernel, Docker Engine, MapServer, an S3 server, the agent as a process of its
//! own. Needs root, `/dev/fuse`, Docker and the image `mapserver:8`.

use crate::support::world;

use std::process::Command;

use mapkeeper::host::mount;
use s3_testbed::Versioning;
use serde_json::Value;

use world::{HEALTH_MAP, Kit, World, output};

/// A tiny raster in the format that GDAL reads without any driver beyond its own: an ASCII grid.
const GRID: &str = "ncols 2\nnrows 2\nxllcorner -10\nyllcorner -10\ncellsize 10\n1 2\n3 4\n";

/// A mapfile of its own, with lines in the map and in its layer.
fn map(of_map: &str, layer: &str) -> String {
    format!(
        "MAP\n  NAME \"test\"\n  STATUS ON\n  EXTENT -10 -10 10 10\n  SIZE 100 100\n  {of_map}\n  \
         PROJECTION \"init=epsg:4326\" END\n  WEB METADATA \"wms_title\" \"t\" \"wms_enable_request\" \"*\" \
         \"wms_srs\" \"EPSG:4326\" END END\n  LAYER NAME \"relief\" STATUS ON PROJECTION \"init=epsg:4326\" END\n    \
         {layer}\n  END\nEND\n"
    )
}

const SQUARE: &str =
    "TYPE POLYGON FEATURE POINTS -5 -5 5 -5 5 5 -5 5 -5 -5 END END CLASS STYLE COLOR 200 30 30 END END";

/// What `explain --json` says of a map, and the screen that a person gets.
async fn explained(world: &World, map: &str) -> Value {
    let ask = |json: bool| {
        let mut command = world.mapkeeper();
        command.args(["explain", map, "--config"]).arg(world.config());
        if json {
            command.arg("--json");
        }
        command
    };
    let screen = output(&mut ask(false)).await;
    let text = String::from_utf8_lossy(&screen.stdout).into_owned();
    println!("$ mapkeeper explain {map}\n{text}[exit {}]\n", screen.status.code().unwrap_or(-1));
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    let json = output(&mut ask(true)).await;
    assert_eq!(json.status.code(), screen.status.code());
    serde_json::from_slice(&json.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&json.stderr)))
}

/// The first wrong link has this name, its cause and its cure hold these words.
fn names(said: &Value, link: &str, cause: &str, cure: &str) {
    assert_eq!(said["first_wrong"], link, "{said:#}");
    let links = said["links"].as_array().expect("links");
    let wrong = links.iter().find(|one| one["name"] == link).expect("it is among them");
    let (detail, hint) = (wrong["detail"].to_string(), wrong["hint"].to_string());
    assert!(detail.contains(cause), "{detail} does not say {cause}");
    assert!(hint.contains(cure), "{hint} does not say {cure}");
}

fn put(world: &World, key: &str, text: &str, headers: &[(&str, &str)]) {
    world.server().store().put("maps", key, text.to_owned(), headers).expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_wrong_link_of_a_broken_map_is_named() {
    let world = World::healthy("explain").await;
    world.server().store().set_versioning("maps", Versioning::Enabled).expect("set");
    put(&world, "data/relief.asc", GRID, &[]);
    put(&world, "good.map", &map("", "TYPE RASTER DATA \"data/relief.asc\""), &[]);
    let good = explained(&world, "good.map").await;
    assert_eq!(good["first_wrong"], Value::Null, "{good:#}");
    let link = |name: &str| {
        let links = good["links"].as_array().cloned().unwrap_or_default();
        links.into_iter().find(|link| link["name"] == name).unwrap_or_default()["detail"].to_string()
    };
    assert!(link("wms").contains("draws 1 of 1 layers"), "{good:#}");
    assert!(link("object").contains("by mapkeeper") && link("object").contains("version "), "{good:#}");

    let absent = explained(&world, "god.map").await;
    names(&absent, "object", "there is no object s3://maps/god.map", "good.map");

    put(&world, "private/secret.map", HEALTH_MAP, &[("mode", "33152"), ("uid", "0"), ("gid", "0")]);
    let unreadable = explained(&world, "/mapfiles/private/secret.map").await;
    names(&unreadable, "headers", "mode 0600, owner 0:0: not readable by uid 33", "--metadata mode=33188");

    put(&world, "broken.map", HEALTH_MAP, &[]);
    put(&world, "broken.map", &HEALTH_MAP.replace("EXTENT", "EXTNT"), &[]);
    let broken = explained(&world, "s3://maps/broken.map").await;
    names(&broken, "wms", "broken at line 5", "copy-object --bucket maps --key broken.map");
    assert!(broken["links"][0]["detail"].to_string().contains("; before it version "), "{broken:#}");

    put(&world, ".hidden/pattern.map", HEALTH_MAP, &[]);
    let pattern = explained(&world, "/mapfiles/.hidden/pattern.map").await;
    names(&pattern, "container", "MS_MAP_PATTERN", "MS_MAP_PATTERN");

    put(&world, "log.map", &map("CONFIG \"MS_ERRORFILE\" \"/var/log/none/ms_error.log\"", SQUARE), &[]);
    let error_file = explained(&world, "log.map").await;
    names(&error_file, "wms", "cannot open its error log", "stderr");

    put(&world, "raster.map", &map("", "TYPE RASTER DATA \"data/Relief.asc\""), &[]);
    let raster = explained(&world, "raster.map").await;
    names(&raster, "data", "layer relief (line 10)", "data/relief.asc");

    put(&world, "keys.map", &map("CONFIG \"AWS_ACCESS_KEY_ID\" \"AKIAABCDEFGHIJKLMNOP\"", SQUARE), &[]);
    let keys = explained(&world, "keys.map").await;
    names(&keys, "mapfile", "an AWS access key id stands in it", "revoke it");
    assert!(!keys.to_string().contains("AKIAABCDEFGHIJKLMNOP"), "a secret is never repeated");

    stale(world).await;
}

/// The container is on a mount that the host has no more, and nobody repairs it.
async fn stale(world: World) {
    let pause = output(world.mapkeeper().arg("pause")).await;
    assert!(pause.status.success(), "{}", String::from_utf8_lossy(&pause.stderr));
    mount::detach(&world.point()).expect("detached");
    let gone = explained(&world, "good.map").await;
    names(&gone, "mount", "nothing is mounted", "mapkeeper status");
    // Somebody mounts it by hand: the host is well, and the container still has the old one.
    let source = format!("region=us-east-1,endpoint_url={}", world.server().endpoint());
    let mut by_hand = world.mapkeeper();
    by_hand.args(["mount", "s3://maps"]).arg(world.point()).args(["-o", &source]);
    let mut by_hand = by_hand.spawn().expect("started");
    let began = tokio::time::Instant::now();
    while !world::is_mounted(&world.point()) {
        assert!(began.elapsed() < world::LIMIT, "it does not mount");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let stale = explained(&world, "good.map").await;
    names(&stale, "bind", "stale: the container sees device", "docker restart");
    let stopped = output(Command::new("kill").arg(by_hand.id().to_string())).await;
    assert!(stopped.status.success());
    tokio::task::spawn_blocking(move || by_hand.wait()).await.expect("waited").expect("ended");
    let resumed = output(world.mapkeeper().arg("resume")).await;
    assert!(resumed.status.success());
    world.until("health", |status| status["health"] == "healthy").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_is_explained_while_no_agent_runs_and_nothing_is_changed() {
    let mut world = World::prepared("explain-down", Kit::default());
    let down = explained(&world, "health.map").await;
    names(&down, "mount", "nothing is mounted", "systemctl start mapkeeper");
    assert!(!world.point().exists(), "asking makes no directory");
    let nowhere =
        output(world.mapkeeper().args(["explain", "/etc/passwd", "--config"]).arg(world.config())).await;
    assert_eq!(nowhere.status.code(), Some(64));
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("no mount shows \"/etc/passwd\"") && said.contains("hint: "), "{said}");
    // A bucket that hangs holds nobody up.
    let server = world.server.take().expect("it runs");
    let stopped = server.stop().await;
    let began = tokio::time::Instant::now();
    world.server = Some(s3_testbed::Server::start(stopped).expect("started again"));
    world.server().control().hold_from(0);
    let held = explained(&world, "health.map").await;
    assert_eq!(held["first_wrong"], "object", "{held:#}");
    assert!(began.elapsed() < world::LIMIT, "{:?}", began.elapsed());
}
