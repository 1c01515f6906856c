//! The snapshot as a page for people: plain HTML that needs no script, one section for each part of [`Status`].

use core::fmt::Write;

use super::{ROWS_MAX, Rows, Stage, Status};

mod drawing;
mod html;
mod sections;

use html::{Badge, Cell, Escaped, Span};

/// What the page looks like; its colours are checked for contrast by a test.
pub(crate) const STYLE: &str = include_str!("page/style.css");
/// Keeps an open page current. Without it the browser loads the page again by itself.
pub(crate) const SCRIPT: &str = include_str!("page/live.js");

/// The whole page.
pub(crate) fn html(status: &Status) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let name = Escaped(&status.node.name);
    let _infallible = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{name} – cuttlebone</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n\
         <script src=\"/live.js\" defer></script>\n</head>\n<body>\n<main id=\"status\">\n"
    );
    head(&mut out, status);
    sections::sources(&mut out, &status.sources);
    sections::buckets(&mut out, &status.buckets);
    sections::update(&mut out, &status.update);
    sections::tokens(&mut out, &status.tokens);
    sections::mounts(&mut out, &status.mounts);
    sections::published(&mut out, &status.published);
    sections::connections(&mut out, &status.connections);
    sections::listener(&mut out, &status.listener);
    out.push_str(
        "</main>\n<footer><p>The same as <a href=\"/v1/status\">JSON</a> and as <a href=\"/metrics\">metrics</a>. \
         <span id=\"live\" role=\"status\"></span></p></footer>\n</body>\n</html>\n",
    );
    out
}

fn head(out: &mut String, status: &Status) {
    let node = &status.node;
    let (badge, word) = match node.stage {
        Stage::Serving => (Badge::Good, "serving"),
        Stage::WarmingUp => (Badge::Waiting, "warming up"),
        Stage::CatchingUp => (Badge::Waiting, "catching up"),
        Stage::Stopping => (Badge::Waiting, "stopping"),
    };
    let _infallible = writeln!(
        out,
        "<header><h1>{}</h1><p>{} <span id=\"node-detail\">{}</span></p>\
         <p class=\"muted\">cuttlebone <span id=\"node-version\">{}</span>, up <span id=\"node-uptime\">{}</span></p></header>",
        Escaped(&node.name),
        badge.of("node-stage", word),
        Escaped(&node.detail),
        Escaped(&node.version),
        Span(node.uptime_ms),
    );
}

/// Begins a section; its heading names it for those who listen to the page.
fn section(out: &mut String, id: &str, heading: &str) {
    let _infallible =
        writeln!(out, "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{heading}</h2>");
}

/// Figures by name.
fn figures(out: &mut String, id: &str, figures: &[(&str, &str, Cell)]) {
    out.push_str("<dl>");
    for (key, label, value) in figures {
        let _infallible = write!(out, "<div><dt>{label}</dt><dd id=\"{id}-{key}\">{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

/// A table that scrolls sideways where the screen is narrow.
fn table(out: &mut String, caption: &str, heads: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) {
    let _infallible = write!(
        out,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
    );
    for head in heads {
        let _infallible = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let (open, close) = if at == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            let _infallible = write!(out, "{open}{cell}{close}");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Says how much of a table is not shown.
fn hidden<T>(out: &mut String, rows: &Rows<T>, shown_max: usize) {
    let shown = rows.rows.len().min(shown_max).min(ROWS_MAX);
    let hidden = rows.total.saturating_sub(shown as u64);
    if hidden > 0 {
        let _infallible = writeln!(out, "<p class=\"muted\">and {hidden} more</p>");
    }
}

fn nothing(out: &mut String, words: &str) {
    let _infallible = writeln!(out, "<p class=\"muted\">{words}</p>");
}

#[cfg(test)]
mod tests;
