//! P2 on a whole host: the agent is killed and replaced, again and again, and MapServer notices at most a pause.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::world::{Kit, World, device};

/// Kills and replacements, one every two seconds.
const TIMES: usize = 6;

/// The process that the supervisor has started.
fn serving(supervisor: Pid) -> Option<Pid> {
    let parent = supervisor.to_string();
    let is_child = |pid: &Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    };
    let all = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.find(is_child)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_and_replaced_leaves_mount_and_container_alone() {
    let world = World::healthy_with("survival", Kit { supervised: true, ..Kit::default() }).await;
    let started = ["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"];
    let (container, mounted) = (world.docker(&started).await, device(&world.point()));
    let supervisor = Pid::from_raw(world.agent.as_ref().expect("started").id() as i32);
    let mut slowest = Duration::ZERO;
    let mut answers = 0;
    for time in 0..TIMES {
        if time % 3 == 2 {
            kill(supervisor, Signal::SIGUSR1).expect("it runs");
        } else {
            kill(serving(supervisor).expect("it serves"), Signal::SIGKILL).expect("it runs");
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            assert!(world.serves().await, "answer {answers} after kill {time}");
            slowest = slowest.max(asked.elapsed());
            answers += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
    println!("{TIMES} kills and replacements, {answers} WMS answers, the slowest after {slowest:?}");
    let (status, _) = world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(world.docker(&started).await, container, "{status:#}");
    assert_eq!(device(&world.point()), mounted);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    world.end().await;
}
