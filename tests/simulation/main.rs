//! The whole agent in virtual time, against a model of a host that breaks in every way it knows.
//!
//! Each schedule is made from a seed: a configuration, faults with their times (two and more at once, flapping, hanging,
//! half done), looks that fail. The agent is the real one, loop and planner and status; only the host is a model. What
//! must hold is in `check.rs`. A schedule that breaks it prints its seed and its story, and
//!
//! ```sh
//! SIMULATION_SEED=4711 scripts/simulation     # plays it again
//! scripts/simulation 1000000                  # many more
//! scripts/mutants                             # breaks the planner on purpose and counts who notices
//! ```

mod check;
mod model;
mod schedule;
mod watch;

use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mapkeeper::agent::status::{Document, Writer};
use mapkeeper::agent::{self, Publisher};
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep};

use model::{Model, Simulated};
use schedule::Schedule;
use watch::Watcher;

/// Schedules where nobody says how many.
const COUNT: u64 = 1_000;

/// How a schedule ended.
struct Outcome {
    /// From the end of the last fault to health.
    recovered: Duration,
    actions: usize,
    looks: u64,
    length: Duration,
}

/// Plays one schedule; the error is its story.
fn play(seed: u64, told: bool) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let schedule = Schedule::from_seed(seed);
    let ended = runtime.block_on(async {
        let model = Rc::new(Model::new(&schedule, seed));
        let ended = told_by(&model, &schedule).await;
        ended.map_err(|broken| (broken, model.story()))
    });
    match ended {
        Ok(outcome) if !told => Ok(outcome),
        Ok(outcome) => Ok(outcome),
        Err((broken, story)) => Err(format!(
            "seed {seed}: {broken}\n{schedule:#?}\n{story}\nplay it again: SIMULATION_SEED={seed} scripts/simulation"
        )),
    }
}

async fn told_by(model: &Rc<Model>, schedule: &Schedule) -> Result<Outcome, String> {
    let begun = Instant::now();
    let (sender, documents) = channel::channel(None);
    let life = lives(model, schedule, sender);
    let faults = model.clone().suffers(schedule);
    let ecs = model.clone().replaces();
    let watcher = Watcher::new(model.clone(), schedule, documents);
    // The watcher ends the schedule; the others go on for ever.
    let recovered = tokio::select! {
        biased;
        _ = life => unreachable!("the agent is started again for ever"),
        _ = faults => unreachable!("it waits when all is over"),
        _ = ecs => unreachable!("ECS never ends"),
        ended = watcher.watch() => ended?,
    };
    let (actions, looks) = model.counts();
    Ok(Outcome { recovered, actions, looks, length: begun.elapsed() })
}

/// One agent after the other: a new one begins where the last was killed.
async fn lives(
    model: &Rc<Model>,
    schedule: &Schedule,
    documents: channel::Sender<Option<std::sync::Arc<Document>>>,
) {
    loop {
        let (_stop, order) = channel::channel(false);
        let publisher = Publisher { runtime_dir: None, watch: documents.clone(), alive: Box::new(|_| {}) };
        let writer = Writer { boot_id: "boot".to_owned(), pid: 1, process_start: 1 };
        let settings = schedule.settings();
        let host = Simulated(model.clone());
        // Cancel-safe: whichever ends, the other is dropped for good, as a process that is killed.
        tokio::select! {
            biased;
            () = agent::run(&host, &settings, writer, publisher, order) => {}
            () = model.killed() => {}
        }
        model.process_ended();
        sleep(Duration::from_secs(2)).await;
    }
}

/// Plays `count` schedules on all processors; the first few that break something.
fn play_all(first: u64, count: u64) -> (Vec<String>, Vec<Outcome>) {
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    let outcomes = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || broken.lock().expect("no panic").len() >= 3 {
                        return;
                    }
                    match std::panic::catch_unwind(|| play(seed, false)) {
                        Ok(Ok(outcome)) => outcomes.lock().expect("no panic").push(outcome),
                        Ok(Err(story)) => broken.lock().expect("no panic").push(story),
                        Err(_) => broken.lock().expect("no panic").push(format!("seed {seed}: it panicked")),
                    }
                }
            });
        }
    });
    (broken.into_inner().expect("no panic"), outcomes.into_inner().expect("no panic"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_schedule_of_faults_keeps_every_promise() {
    let count = number("SIMULATION_COUNT").unwrap_or(COUNT);
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let begun = std::time::SystemTime::now();
    let (broken, mut outcomes) = play_all(first, count);
    let took = begun.elapsed().unwrap_or_default().as_secs_f64();
    assert!(broken.is_empty(), "{} broke a promise\n{}", broken.len(), broken[0]);
    outcomes.sort_by_key(|outcome| outcome.recovered);
    let at = |part: usize| outcomes[(outcomes.len() - 1) * part / 1000].recovered.as_secs_f64();
    let sum = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>();
    println!(
        "{count} schedules in {took:.1} s ({:.0} a second): {:.0} hours of virtual time, {:.0} looks, {:.0} actions; \
         from the end of the last fault to health: median {:.1} s, 99 % within {:.1} s, worst {:.1} s",
        count as f64 / took,
        sum(|outcome| outcome.length.as_secs_f64()) / 3600.0,
        sum(|outcome| outcome.looks as f64),
        sum(|outcome| outcome.actions as f64),
        at(500),
        at(990),
        at(1000),
    );
}

#[test]
fn one_schedule_is_played_the_same_each_time() {
    let seed = number("SIMULATION_SEED").unwrap_or(7);
    let outcome = play(seed, true).unwrap_or_else(|story| panic!("{story}"));
    let again = play(seed, false).unwrap_or_else(|story| panic!("{story}"));
    assert_eq!(
        (outcome.recovered, outcome.actions, outcome.looks),
        (again.recovered, again.actions, again.looks)
    );
}

/// Waits until `at`, counted from the beginning of the schedule.
async fn until(at: Duration) {
    tokio::time::sleep_until(model::begin() + at).await;
}
