//! Text for a person at a terminal: 80 columns, colour only where it is wanted, and word of what takes long.
//!
//! What must hold: no control character that comes from outside (a container's answer, a kernel string, a name in a
//! bucket) reaches the terminal; nothing is said about a wait that is over within [`PATIENCE`].

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Longest line, with its line feed.
pub const COLUMNS: usize = 80;
/// A wait is told of when it takes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two lines about one wait, where lines stay.
const LINES_EVERY: Duration = Duration::from_secs(15);

/// A number of things, by the word for one: `1 mount`, `2 containers`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Whether colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colour only on a terminal, and not where `NO_COLOR` is set.
    pub fn of(out: &impl IsTerminal) -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !unwanted { Style::Coloured } else { Style::Plain }
    }
}

/// What a colour says; the text says it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Good,
    Doubtful,
    Bad,
}

/// `text` in a colour, if there is any.
pub fn paint(text: &str, colour: Colour, style: Style) -> String {
    let number = match colour {
        Colour::Good => "32",
        Colour::Doubtful => "33",
        Colour::Bad => "31",
    };
    match style {
        Style::Plain => text.to_owned(),
        Style::Coloured => format!("\x1b[{number}m{text}\x1b[0m"),
    }
}

/// `text` without control characters.
pub fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// `text` on one line of the terminal.
pub fn fit(text: &str) -> String {
    shorten(&clean(text), COLUMNS - 1)
}

/// The first `most` characters of `text`; the last three are dots where there are more.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// `text` on as many lines of at most `width` characters as it needs, at most `most`; broken at spaces where there are
/// any.
pub fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text).split_whitespace() {
        for piece in pieces(word, width) {
            let line = lines.last_mut().expect("there is always a line");
            let joined = line.chars().count() + 1 + piece.chars().count();
            if line.is_empty() {
                line.push_str(&piece);
            } else if joined <= width {
                line.push(' ');
                line.push_str(&piece);
            } else {
                lines.push(piece);
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = shorten(&format!("{last} ..."), width);
        }
    }
    lines
}

/// A word cut into lines, if it is longer than one.
fn pieces(word: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(width.max(1)).map(|piece| piece.iter().collect()).collect()
}

/// Waits for `work`, and says on standard error what is waited for once that takes longer than [`PATIENCE`]: on a
/// terminal in one line that counts and disappears, elsewhere in a line now and then.
pub async fn while_waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let terminal = io::stderr().is_terminal();
    said_while(what, work, terminal, &mut io::stderr()).await
}

async fn said_while<T>(what: &str, work: impl Future<Output = T>, terminal: bool, out: &mut impl Write) -> T {
    let mut work = std::pin::pin!(work);
    let began = Instant::now();
    let every = if terminal { Duration::from_secs(1) } else { LINES_EVERY };
    let mut ticks = interval_at(began + PATIENCE, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        // Cancel-safe: `work` is pinned outside and goes on; a tick that is dropped comes again.
        tokio::select! {
            done = &mut work => {
                if told && terminal {
                    let _gone = write!(out, "\r\x1b[K").and_then(|()| out.flush());
                }
                return done;
            }
            _ = ticks.tick() => {
                let seconds = began.elapsed().as_secs();
                // Who does not listen is not waited for.
                let _gone = match terminal {
                    true => write!(out, "\r{}\x1b[K", shorten(&clean(&format!("{what}, {seconds} s")), COLUMNS - 1)),
                    false => writeln!(out, "mapkeeper: {what}, {seconds} s"),
                }
                .and_then(|()| out.flush());
                told = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_blanks_and_a_long_word_is_cut() {
        assert_eq!(wrap("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4, 9), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("one two three four", 7, 1), ["one ..."]);
        assert_eq!(wrap("a\x1b[31mb", 80, 1), ["a [31mb"]);
    }

    async fn said(ms: u64, terminal: bool) -> String {
        let mut out = Vec::new();
        said_while("image build", tokio::time::sleep(Duration::from_millis(ms)), terminal, &mut out).await;
        String::from_utf8(out).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_told_of_only_when_it_is_long() {
        assert_eq!(said(1500, true).await, "");
        assert_eq!(said(1500, false).await, "");
        assert_eq!(
            said(3500, true).await,
            "\rimage build, 2 s\x1b[K\rimage build, 3 s\x1b[K\r\x1b[K",
            "one line, gone at the end"
        );
        let lines = said(20_500, false).await;
        assert_eq!(lines, "mapkeeper: image build, 2 s\nmapkeeper: image build, 17 s\n");
    }
}
