//! `GET /`: the chain as a picture, on one page without anything from elsewhere.
//!
//! ```text
//!   document --+
//!   history  --+--> HTML with the drawing in it (SVG), style in its head, no script
//! ```
//!
//! What must hold: everything that comes from outside is escaped; the page asks nobody for anything, so it is as quick
//! and as true as the document; it is readable without colour, on a small screen, and in the dark.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use super::status::{Document, EventKind, LinkReport, age_ms, event_line, is_fresh};
use bucketfs::measure;
use ladder::state::{Health, LinkState};

/// Time between two points of a line, and how many are kept: ten minutes.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const SAMPLES: usize = 120;
/// Events on the page.
const EVENTS: usize = 12;

/// What the lines are drawn from.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    requests: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Time of the last good answer of the slowest service, in milliseconds.
    latency_ms: Option<f64>,
    /// Requests to S3 since the sample before, a second.
    requests_s: f64,
}

impl History {
    /// Takes the next point; to be called every [`SAMPLE_EVERY`].
    pub fn sample(&mut self) {
        let total: u64 =
            measure::all_requests().iter().flat_map(|(_, asked)| asked).map(measure::Asked::count).sum();
        let since = total.saturating_sub(self.requests.replace(total).unwrap_or(total));
        let latency =
            measure::probes().iter().map(|(_, last, _)| last.as_secs_f64() * 1000.0).reduce(f64::max);
        self.samples
            .push_back(Sample { latency_ms: latency, requests_s: since as f64 / SAMPLE_EVERY.as_secs_f64() });
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }
}

/// The page.
pub fn page(document: Option<&Document>, history: &History) -> String {
    let mut html = String::from(HEAD);
    match document {
        None => html.push_str("<h1>mapkeeper: starting</h1><p>The agent has not published anything yet.</p>"),
        Some(document) => body(&mut html, document, history),
    }
    html.push_str("</main></body></html>\n");
    html
}

fn body(html: &mut String, document: &Document, history: &History) {
    let (word, class) = standing(document);
    let _ = write!(html, "<h1><span class=\"dot {class}\"></span>mapkeeper: {}</h1>", escaped(&word));
    let _ = write!(html, "<p class=\"reason\">{}</p>", escaped(&document.reason));
    html.push_str("<section aria-label=\"the chain\">");
    chain(html, &document.links);
    html.push_str("</section>");
    if let Some(fault) = &document.first_fault {
        let _ = write!(
            html,
            "<section class=\"fault\"><h2>First fault: {}</h2><p>{}</p>",
            escaped(&fault.target.to_string()),
            escaped(&fault.cause)
        );
        if let Some(hint) = &fault.hint {
            let _ = write!(html, "<p class=\"hint\"><b>hint:</b> {}</p>", escaped(hint));
        }
        html.push_str("</section>");
    }
    html.push_str("<div class=\"two\">");
    let latencies: Vec<Option<f64>> = history.samples.iter().map(|sample| sample.latency_ms).collect();
    let requests: Vec<Option<f64>> = history.samples.iter().map(|sample| Some(sample.requests_s)).collect();
    line(html, "WMS answer", "ms", &latencies);
    line(html, "S3 requests", "a second", &requests);
    html.push_str("</div>");
    figures(html, document);
    links(html, &document.links);
    events(html, document);
    let _ = write!(
        html,
        "<footer>mapkeeper {}, pid {}, written {} s ago. <a href=\"healthz\">healthz</a> <a href=\"metrics\">metrics</a></footer>",
        escaped(&document.program),
        document.writer.pid,
        age_ms(document) / 1000
    );
}

/// The headline's word, and the class of its colour.
fn standing(document: &Document) -> (String, &'static str) {
    if let Some(why) = &document.ended {
        return (format!("not running ({why})"), "broken");
    }
    if !is_fresh(document) {
        return (format!("stale, silent for {} s", age_ms(document) / 1000), "broken");
    }
    match document.health {
        Health::Healthy => ("healthy".to_owned(), "ok"),
        Health::Degraded => ("degraded".to_owned(), "degraded"),
        Health::Repairing => ("repairing".to_owned(), "degraded"),
        Health::Failed => ("failed, needs a person".to_owned(), "broken"),
    }
}

/// Boxes and arrows from left to right, in as many rows as they need.
fn chain(html: &mut String, links: &[LinkReport]) {
    html.push_str("<ol class=\"chain\">");
    for link in links {
        let state = link.state.word();
        let target = link.target.to_string();
        let (kind, name) = target.split_once(' ').unwrap_or((&target, ""));
        let _ = write!(
            html,
            "<li class=\"{state}\" title=\"{}\"><span class=\"kind\">{}</span><span class=\"name\">{}</span><span class=\"state\">{} {state}</span></li>",
            escaped(&link.detail),
            escaped(kind),
            escaped(name.trim_start_matches("of ")),
            mark(link.state)
        );
    }
    html.push_str("</ol>");
}

/// The state without colour.
fn mark(state: LinkState) -> &'static str {
    match state {
        LinkState::Ok => "&#10003;",
        LinkState::Degraded => "!",
        LinkState::Broken => "&#10007;",
        LinkState::Unknown => "?",
        LinkState::Waiting => "&#8230;",
    }
}

/// One line over time, with its last and its highest value.
fn line(html: &mut String, title: &str, unit: &str, values: &[Option<f64>]) {
    const WIDTH: f64 = 320.0;
    const HEIGHT: f64 = 56.0;
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let last = values.last().copied().flatten();
    let shown = last.map_or("nothing yet".to_owned(), |last| format!("{} {unit}", number(last)));
    let _ = write!(
        html,
        "<figure><figcaption>{title} <b>{shown}</b>, at most {} {unit} in 10 min</figcaption>",
        number(highest)
    );
    let _ = write!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {shown}\" preserveAspectRatio=\"none\">"
    );
    let _ =
        write!(html, "<line class=\"base\" x1=\"0\" y1=\"{0}\" x2=\"{WIDTH}\" y2=\"{0}\"/>", HEIGHT - 1.0);
    let step = WIDTH / (SAMPLES.saturating_sub(1).max(1)) as f64;
    let begin = SAMPLES.saturating_sub(values.len());
    let height =
        |value: f64| HEIGHT - 2.0 - (HEIGHT - 6.0) * if highest > 0.0 { value / highest } else { 0.0 };
    let points: Vec<String> = (begin..)
        .zip(values)
        .filter_map(|(at, value)| value.map(|value| format!("{:.1},{:.1}", at as f64 * step, height(value))))
        .collect();
    let _ = write!(html, "<polyline points=\"{}\"/></svg></figure>", points.join(" "));
}

fn number(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn figures(html: &mut String, document: &Document) {
    html.push_str("<section><table><tbody>");
    for told in super::status::figure_lines(document) {
        let (name, value) = told.split_once(' ').unwrap_or((&told, ""));
        let (name, value) = (escaped(name), escaped(value.trim()));
        let _ = write!(html, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    html.push_str("</tbody></table></section>");
}

fn links(html: &mut String, links: &[LinkReport]) {
    html.push_str("<section><h2>Links</h2><table><tbody>");
    for link in links {
        let state = link.state.word();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"{state}\">{} {state}</td><td>{}</td></tr>",
            escaped(&link.target.to_string()),
            mark(link.state),
            escaped(&link.detail)
        );
    }
    html.push_str("</tbody></table></section>");
}

fn events(html: &mut String, document: &Document) {
    html.push_str("<section><h2>Recent events</h2>");
    if document.events.is_empty() {
        html.push_str("<p>None since the agent started.</p></section>");
        return;
    }
    html.push_str("<ul class=\"events\">");
    for event in document.events.iter().rev().take(EVENTS) {
        let class = match event.what {
            EventKind::Recovered { .. } | EventKind::Configured { .. } => "ok",
            EventKind::Detected { .. } | EventKind::ConfigurationRefused { .. } => "broken",
            EventKind::Acted { .. } => "degraded",
        };
        let _ = write!(html, "<li class=\"{class}\">{}</li>", escaped(&event_line(event)));
    }
    html.push_str("</ul></section>");
}

/// `text` as it stands in HTML, in an attribute as well; control characters are blanks.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter if letter.is_control() => html.push(' '),
            letter => html.push(letter),
        }
    }
    html
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"refresh\" content=\"5\">\
<title>mapkeeper</title><style>\
:root{--ink:#1c2226;--soft:#5d6a72;--paper:#fbfaf7;--card:#fff;--edge:#d9dcd8;--ok:#1d7a46;--warn:#9a5b00;--bad:#b3261e}\
@media (prefers-color-scheme:dark){:root{--ink:#e7eaec;--soft:#9aa7ae;--paper:#14181b;--card:#1d2327;--edge:#343c41;--ok:#63c78b;--warn:#e3a64a;--bad:#f2857c}}\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:1.2rem}\
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1rem;margin:0 0 .4rem}\
.dot{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.45em;background:var(--soft)}\
.dot.ok{background:var(--ok)}.dot.degraded{background:var(--warn)}.dot.broken{background:var(--bad)}\
.reason{color:var(--soft);margin:.1rem 0 1rem}\
.chain{list-style:none;display:flex;flex-wrap:wrap;gap:.6rem 1.55rem;padding:0;margin:0 0 1rem}\
.chain li{position:relative;background:var(--card);border:1px solid var(--edge);border-left:.35rem solid var(--soft);border-radius:.4rem;padding:.45rem .7rem;min-width:6.2rem}\
.chain li+li::before{content:'\\2192';position:absolute;left:-1.45rem;top:50%;transform:translateY(-50%);color:var(--soft)}\
.chain .kind{display:block;font-weight:600}.chain .name{display:block;color:var(--soft);font-size:.85rem;max-width:7.5rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-height:1.2em}\
.chain .state{font-size:.85rem}\
.chain li.ok{border-left-color:var(--ok)}.chain li.degraded,.chain li.waiting,.chain li.unknown{border-left-color:var(--warn)}.chain li.broken{border-left-color:var(--bad)}\
.ok .state,td.ok{color:var(--ok)}.degraded .state,.waiting .state,.unknown .state,td.degraded,td.waiting,td.unknown{color:var(--warn)}.broken .state,td.broken{color:var(--bad)}\
section,figure{background:var(--card);border:1px solid var(--edge);border-radius:.5rem;padding:.8rem;margin:0 0 1rem;overflow-x:auto}\
section[aria-label]{background:none;border:0;padding:0}\
.fault{border-left:.35rem solid var(--bad)}.fault p{margin:.2rem 0}.hint{font-family:ui-monospace,monospace;font-size:.9rem}\
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:0 1rem}\
svg{display:block;width:100%;height:3.5rem}polyline{fill:none;stroke:var(--ok);stroke-width:1.5;vector-effect:non-scaling-stroke}.base{stroke:var(--edge)}\
figcaption{color:var(--soft);font-size:.85rem;margin-bottom:.3rem}figcaption b{color:var(--ink)}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .7rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}th{font-weight:500;white-space:nowrap}\
.events{margin:0;padding:0;list-style:none;font-family:ui-monospace,monospace;font-size:.85rem}.events li{border-left:.2rem solid var(--edge);padding-left:.5rem;margin:.15rem 0;overflow-wrap:anywhere}\
.events .ok{border-color:var(--ok)}.events .broken{border-color:var(--bad)}.events .degraded{border-color:var(--warn)}\
footer{color:var(--soft);font-size:.85rem}a{color:inherit}\
</style></head><body><main>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::FaultReport;
    use crate::agent::status::tests::document;
    use ladder::state::Target;

    #[test]
    fn what_comes_from_outside_is_text_and_nothing_else() {
        let evil = "<script>alert(1)</script>\"'&\x1b[31m";
        let mut shown = document();
        shown.reason = evil.to_owned();
        shown.links[0].detail = evil.to_owned();
        shown.links[0].target = Target::Container(evil.to_owned());
        shown.first_fault = Some(FaultReport {
            target: Target::Docker,
            trigger: None,
            cause: evil.to_owned(),
            hint: Some(evil.to_owned()),
        });
        let html = page(Some(&shown), &History::default());
        assert!(!html.contains("<script") && !html.contains('\x1b'), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let mut history = History::default();
        (0..3).for_each(|_| history.sample());
        let html = page(Some(&document()), &history);
        for word in ["http://", "https://", "src=", "@import", "url(", "<script"] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("<svg") && html.contains("class=\"chain\""), "{html}");
        assert!(page(None, &history).contains("starting"));
    }
}
