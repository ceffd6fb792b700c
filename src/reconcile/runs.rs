//! Runs on a server: one at a time, started or joined by whoever asks, and looked at while it goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Event, Reconciler, Request, Summary, Tally, checkpoint};

/// How a run goes, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which one, counted since the server was started.
    pub number: u64,
    /// Where it stands.
    pub state: RunState,
    /// When it was started.
    pub started: Timestamp,
    /// What it found so far, and what came of it; complete only at the end.
    #[serde(flatten)]
    pub summary: Summary,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// It has ended.
    Finished,
    /// It could not go on.
    Failed,
}

/// Another run is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The runs of a server.
#[derive(Debug)]
pub struct Runs {
    reconciler: Reconciler,
    /// Where checkpoints go, and the name of the store; without it there are none.
    checkpoints: Option<(std::path::PathBuf, String)>,
    stop: Arc<AtomicBool>,
    latest: watch::Sender<Option<Run>>,
    starting: Mutex<()>,
}

impl Runs {
    /// No run yet.
    pub fn new(reconciler: Reconciler, checkpoints: Option<(std::path::PathBuf, String)>) -> Self {
        let (latest, _) = watch::channel(None);
        Self { reconciler, checkpoints, stop: Arc::default(), latest, starting: Mutex::default() }
    }

    /// The latest run, if there was one.
    pub fn latest(&self) -> Option<Run> {
        self.latest.borrow().clone()
    }

    /// Starts a run, or joins the one that is asked the same.
    ///
    /// # Errors
    /// If one is going on that is asked something else.
    pub fn start_or_join(&self, request: Request) -> Result<Run, Busy> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest();
        if let Some(run) = latest.as_ref().filter(|run| run.state == RunState::Running) {
            return if run.summary.request == request { Ok(run.clone()) } else { Err(Busy) };
        }
        let summary = Summary { request, complete: false, stopped: None, tally: Tally::default() };
        let run = Run {
            number: latest.map_or(1, |run| run.number.saturating_add(1)),
            state: RunState::Running,
            started: Timestamp::now(),
            summary,
            error: None,
        };
        self.latest.send_replace(Some(run.clone()));
        self.start(run.summary.request.clone());
        Ok(run)
    }

    fn start(&self, request: Request) {
        let file = self
            .checkpoints
            .as_ref()
            .map(|(directory, store)| checkpoint::File::in_directory(directory, store, &request));
        let (reconciler, stop, latest) = (self.reconciler.clone(), Arc::clone(&self.stop), self.latest.clone());
        tokio::spawn(async move {
            let tell = |event: Event<'_>| {
                if let Event::Progress(tally) = event {
                    change(&latest, |run| run.summary.tally = tally.clone());
                }
            };
            // In a task of its own, so that a bug ends the run and not the word of it.
            let worked = std::panic::AssertUnwindSafe(reconciler.run(&request, file.as_ref(), &stop, &tell));
            let ended = futures_util::FutureExt::catch_unwind(worked).await;
            let (state, error) = match ended {
                Ok(Ok(summary)) => {
                    change(&latest, |run| run.summary = summary.clone());
                    (RunState::Finished, None)
                }
                Ok(Err(error)) => (RunState::Failed, Some(error.to_string())),
                Err(_) => (RunState::Failed, Some("it broke off by a bug; the log has the details".to_owned())),
            };
            if let Some(error) = &error {
                tracing::error!(error, bucket = request.bucket, prefix = request.prefix, "reconciling failed");
            }
            change(&latest, |run| {
                run.state = state;
                run.error.clone_from(&error);
            });
        });
    }

    /// Asks the run that goes on to stop where it is, and any later one not to begin.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until no run goes on.
    pub async fn ended(&self) {
        let mut latest = self.latest.subscribe();
        let ended = |run: &Option<Run>| run.as_ref().is_none_or(|run| run.state != RunState::Running);
        let _ = latest.wait_for(ended).await;
    }
}

fn change(latest: &watch::Sender<Option<Run>>, change: impl FnOnce(&mut Run)) {
    latest.send_modify(|run| {
        if let Some(run) = run {
            change(run);
        }
    });
}
