//! Moments, patience and budgets: how long the agent waits for what, and how often it tries.

use std::time::Duration;

use super::repair::Rung;

/// A point in time: how long the loop has been running. Monotonic, never wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `delay` more.
    pub fn after(self, delay: Duration) -> Moment {
        Moment(self.0.saturating_add(delay))
    }
}

/// Every patience of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Time between looks while all is well.
    pub look_every: Duration,
    /// Time between looks while something is faulty.
    pub look_again: Duration,
    /// Could-not-look is held against the host after this long.
    pub unknown_patience: Duration,
    /// No action on a target sooner than this after the last one, whatever the rung.
    pub settle: Duration,
    /// A service that has not answered yet in this life of its container is left alone this long.
    pub start_grace: Duration,
    /// Consecutive failed looks at a service, and their shortest span, before a restart; one less where the
    /// probe's whole timeout passed in silence.
    pub confirm_looks: u32,
    pub confirm_for: Duration,
    /// A fault of a target that was well this long is a new one: the first attempt at it needs no
    /// pause, although attempts still count. The span after which Docker resets its own delay.
    pub steady_after: Duration,
    /// Attempts are forgotten after the target was well this long.
    pub forgive_after: Duration,
    /// ECS has this long to replace a container that ended.
    pub replacement_deadline: Duration,
    /// A mount whose session lives and that is silent is given up after this long.
    pub silence_patience: Duration,
    /// The same for one that answers with errors, or with what the bucket does not hold.
    pub errors_patience: Duration,
    /// Requests may wait in a session this long, at every look, before that is told.
    pub waiting_patience: Duration,
    /// Requests of which a session knows nothing may wait this long, at every look, before the session is given up.
    pub lost_patience: Duration,
    /// The ECS agent has this long to come up, to register and to connect by itself.
    pub ecs_patience: Duration,
    /// A repair of what serves nobody (nothing mounted, nothing running) waits no longer than this after
    /// the last one, however many there were: it disturbs nobody.
    pub idle_cap: Duration,
    /// A host whose repairs are spent says so for this long before it is given back.
    pub terminate_after: Duration,
    pub credentials: Budget,
    pub workers: Budget,
    pub remount: Budget,
    pub restart: Budget,
    pub adjust: Budget,
    pub recreate: Budget,
    pub ecs: Budget,
    pub drain: Budget,
    pub terminate: Budget,
}

/// How often a rung may be tried on one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Attempts before a person is called.
    pub attempts: u32,
    /// Shortest pause after an attempt.
    pub base: Duration,
    /// Longest pause after an attempt within the budget.
    pub cap: Duration,
    /// Pause after each attempt once the budget is spent.
    pub slow: Duration,
}

impl Timing {
    /// The budget of a rung.
    pub fn budget(&self, rung: Rung) -> &Budget {
        match rung {
            Rung::Credentials => &self.credentials,
            Rung::Workers => &self.workers,
            Rung::Remount => &self.remount,
            Rung::Restart => &self.restart,
            Rung::Adjust => &self.adjust,
            Rung::Recreate => &self.recreate,
            Rung::Ecs => &self.ecs,
            Rung::Drain => &self.drain,
            Rung::Terminate => &self.terminate,
        }
    }
}

impl Default for Timing {
    fn default() -> Timing {
        let seconds = Duration::from_secs;
        Timing {
            look_every: seconds(4),
            look_again: seconds(1),
            unknown_patience: seconds(15),
            settle: Duration::from_millis(500),
            start_grace: seconds(20),
            confirm_looks: 3,
            confirm_for: seconds(2),
            steady_after: seconds(10),
            forgive_after: seconds(300),
            replacement_deadline: seconds(120),
            silence_patience: seconds(3),
            errors_patience: seconds(8),
            waiting_patience: seconds(120),
            lost_patience: seconds(10),
            ecs_patience: seconds(30),
            idle_cap: seconds(5),
            terminate_after: seconds(600),
            // A secret that is corrected is in use within ten seconds; asking that often costs five cents a day.
            credentials: Budget::new(3, 2, 8, 8),
            // What does not help twice does not help: the session itself is replaced next.
            workers: Budget::new(2, 1, 5, 300),
            // A mount that serves nobody is tried again within `idle_cap`; the longer pauses are for one
            // whose session lives.
            remount: Budget { base: Duration::from_millis(500), ..Budget::new(10, 1, 8, 60) },
            // A restart interrupts a service that may half work: longer pauses, fewer attempts.
            restart: Budget::new(5, 1, 60, 300),
            adjust: Budget::new(3, 1, 30, 300),
            recreate: Budget::new(8, 1, 60, 300),
            // The agent needs half a minute to come up, and systemd looks after it as well.
            ecs: Budget::new(4, 30, 300, 1800),
            drain: Budget::new(20, 2, 30, 60),
            terminate: Budget::new(3, 30, 300, 3600),
        }
    }
}

impl Budget {
    /// A budget in whole seconds.
    pub const fn new(attempts: u32, base_s: u64, cap_s: u64, slow_s: u64) -> Budget {
        let seconds = Duration::from_secs;
        Budget { attempts, base: seconds(base_s), cap: seconds(cap_s), slow: seconds(slow_s) }
    }
}
