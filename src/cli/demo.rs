//! `mapkeeper demo`: the stage is `demo.rs`'s, the words on the terminal are here.
//!
//! Served by a process under a supervisor, like a mount: should it be killed, another goes on with mount and container.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::arguments::DemoArguments;
use super::mount::run_supervised;
use crate::agent;
use crate::agent::status::{Document, Report, Standing, render};
use crate::demo::{DemoError, Life, Show, Stage, play};
use crate::error::Exit;
use crate::host::mount::handover;
use crate::terminal::Style;

/// Has the demo played by a process of its own, and by another should that one be killed.
pub(super) fn supervised() -> Exit {
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    words.push("--supervised".into());
    run_supervised(&words, None)
}

/// Plays the demo until Ctrl-C, or with `--check` until the map has been verified.
///
/// # Errors
///
/// What keeps the chain from becoming healthy.
pub(super) async fn demo(arguments: &DemoArguments) -> Result<(), DemoError> {
    // Before any child is started, which would hold them as well.
    let left = handover::left();
    let show = Show {
        directory: arguments.directory.clone().unwrap_or_else(sample_data),
        port: arguments.port,
        image: arguments.image.clone(),
        output: arguments.output.clone(),
    };
    let orders = agent::stop_on_signals().map_err(|source| DemoError::Process { source })?;
    let life = Life { left, orders: orders.clone() };
    let (check, given) = (arguments.check, orders.clone());
    let played = play(&show, life, |stage, documents| async move {
        announce(&stage);
        if !check {
            watch_until(orders.stop.clone(), documents).await;
            if !orders.replace() {
                println!("\nleaving: the container and the mount are removed");
            }
        }
        Ok(())
    })
    .await;
    if !given.replace() {
        handover::let_go_listener();
    }
    played
}

/// Where `make demo` draws its data.
fn sample_data() -> PathBuf {
    let cache = std::env::var_os("MAPKEEPER_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/mapkeeper")));
    cache.unwrap_or_default().join("demo-data")
}

fn announce(stage: &Stage) {
    let picture = &stage.picture;
    println!("WMS:  {}", picture.url);
    println!(
        "map:  {} ({} x {} pixels, {} bytes)",
        stage.output.display(),
        picture.width,
        picture.height,
        picture.bytes.len()
    );
    println!(
        "data: {} (drop or edit a mapfile there: the next request serves it)",
        stage.directory.display()
    );
}

/// Shows each change of the status, on a terminal in place, until the stop order.
async fn watch_until(mut stop: watch::Receiver<bool>, mut documents: watch::Receiver<Option<Arc<Document>>>) {
    println!("Ctrl-C ends it and leaves nothing behind\n");
    let mut shown = String::new();
    loop {
        let document = documents.borrow_and_update().clone();
        if let Some(document) = document {
            let out = io::stdout();
            // Where lines stay, what is only counted is no reason for more of them.
            let document = if out.is_terminal() { (*document).clone() } else { document.without_figures() };
            let text = render(&fresh(&document), Style::of(&out));
            if text != shown {
                show(&text, &shown);
                shown = text;
            }
        }
        // Cancel-safe: both arms only wait.
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = documents.changed() => if changed.is_err() { return },
        }
    }
}

/// Prints the status over the one before.
fn show(text: &str, before: &str) {
    let mut out = io::stdout().lock();
    let up = before.lines().count();
    let back = if out.is_terminal() && up > 0 { format!("\x1b[{up}A\x1b[J") } else { String::new() };
    // Nobody may be looking any more; the demo goes on.
    let _ = write!(out, "{back}{text}").and_then(|()| out.flush());
}

/// A report of a document that is in memory.
fn fresh(document: &Document) -> Report {
    Report { standing: Standing::Fresh, document: Some(document.clone()) }
}
