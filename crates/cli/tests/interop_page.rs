//! The status page of a whole node in a real browser: readable without scripts, on a phone and on a desk, in light and in
//! dark, to the eye and to a screen reader; and true against what the node says as JSON.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cuttlebone_http::Client;
use cuttlebone_testkit::{Cluster, Deadline};
use serde_json::Value;

#[path = "page/browser.rs"]
mod browser;
mod running;

use browser::{Browser, View};
use running::Running;
use running::holder::hold;

/// Every section, in its order.
const SECTIONS: [&str; 8] =
    ["sources", "buckets", "update", "tokens", "mounts", "published", "connections", "listener"];
/// What a screen reader has to be able to name.
const NAMED: [&str; 7] = ["link", "button", "image", "table", "region", "heading", "columnheader"];

/// Something in every section: a monitor that is followed, a replica that follows, a window of hot reload, a name, and a
/// token that somebody holds.
fn busy(cluster: &Cluster, dir: &std::path::Path) -> Result<(Running, Running)> {
    let publish = "[publish]\nnames = [\"cell/store\"]\n";
    let monitor = cluster.mon("a").addr();
    let source = format!("[source.monsync]\nmonitors = [\"{monitor}\"]\nevery_ms = 100\n");
    let mut origin = Running::new(dir, "n1", &format!("{source}{publish}"))?;
    origin.serve_replicas();
    origin.start()?;
    let mut replica =
        Running::new(dir, "n2", &format!("[source.follow]\norigin = \"{}\"\n", origin.links()?))?;
    replica.start()?;
    replica.wait_until_serving()?;
    origin.wait_until_serving()?;
    origin.update("start")?;
    Deadline::after(core::time::Duration::from_secs(60)).wait_for("the name is mounted", || {
        (origin.status().ok()?["published"]["rows"][0]["mounted"] == true).then_some(())
    })?;
    // From here on nothing changes by itself.
    cluster.mon("a").pause()?;
    Ok((origin, replica))
}

/// Opens the page, and gives what the node said before and after it, once that is the same: what was on its way when the
/// monitor was paused may still come.
fn open(browser: &mut Browser, node: &Running, view: View) -> Result<Value> {
    let settled = |status: &Value| {
        let (bucket, update) = (&status["buckets"][0], &status["update"]);
        let links = &status["connections"]["total"];
        [&bucket["items"], &bucket["unpersisted"], &update["stage"], &update["held_items"], links]
            .map(Value::clone)
    };
    let mut before = node.status()?;
    loop {
        browser.open(&format!("http://{}/", node.server()), view)?;
        let after = node.status()?;
        if settled(&before) == settled(&after) {
            return Ok(after);
        }
        before = after;
    }
}

/// Every section says what the JSON says.
fn is_true(browser: &mut Browser, status: &Value) -> Result<()> {
    let shown = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[id]')].map((it) => [it.id, it.textContent.trim()]))",
    )?;
    for section in SECTIONS {
        ensure!(shown[section].as_str().is_some_and(|text| text.len() > 10), "section {section} in {shown}");
    }
    let bucket = &status["buckets"][0];
    for (id, value) in [
        ("node-stage", &status["node"]["stage"]),
        ("node-version", &status["node"]["version"]),
        ("bucket-0-items", &bucket["items"]),
        ("bucket-0-unpersisted", &bucket["unpersisted"]),
        ("update-stage", &status["update"]["stage"]),
        ("update-held", &status["update"]["held_items"]),
        ("tokens-held", &status["tokens"]["held"]),
        ("mounts-total", &status["mounts"]["total"]),
        ("published-total", &status["published"]["total"]),
        ("connections-total", &status["connections"]["total"]),
    ] {
        let value = value.as_str().map_or_else(|| value.to_string(), String::from);
        ensure!(shown[id] == value.as_str(), "{id} is {} on the page, and {value}", shown[id]);
    }
    for (section, value) in [
        ("sources", &status["sources"][0]["peer"]),
        ("mounts", &status["mounts"]["rows"][0]["server"]),
        ("published", &status["published"]["rows"][0]["name"]),
        ("connections", &status["connections"]["rows"][0]["address"]),
        ("tokens", &status["tokens"]["names"]["rows"][0]["name"]),
    ] {
        let value = value.as_str().with_context(|| format!("nothing in {section}: {status}"))?;
        ensure!(shown[section].as_str().is_some_and(|text| text.contains(value)), "{value} in {section}");
    }
    // Each cursor of each vbucket is a mark in a drawing, and a row.
    let cursors = |of: &Value| of["cursors"].as_array().map_or(0, Vec::len);
    let marks: usize = bucket["vbuckets"]["rows"].as_array().into_iter().flatten().map(cursors).sum();
    let drawn = browser.evaluate("document.querySelectorAll('#buckets .cursor').length")?;
    ensure!(drawn == marks && marks > 1, "{drawn} cursors are drawn, and there are {marks}");
    for cursor in bucket["cursors"].as_array().into_iter().flatten() {
        let name = cursor["name"].as_str().context("a cursor has a name")?;
        ensure!(shown["buckets"].as_str().is_some_and(|text| text.contains(name)), "cursor {name}");
    }
    Ok(())
}

fn can_be_read(browser: &mut Browser) -> Result<()> {
    let faults = browser.evaluate(include_str!("page/audit.js"))?;
    let faults = faults.as_array().context("a list of faults")?;
    ensure!(faults.is_empty(), "{faults:#?}");
    let spoken = browser.spoken()?;
    for (role, name) in &spoken {
        ensure!(!NAMED.contains(&role.as_str()) || !name.is_empty(), "a {role} without a name: {spoken:?}");
    }
    let regions = spoken.iter().filter(|(role, _)| role == "region").count();
    ensure!(regions >= SECTIONS.len(), "{regions} regions: {spoken:?}");
    Ok(())
}

#[test]
fn the_page_of_a_node_can_be_read_by_everybody_and_is_true() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let dir = tempfile::tempdir()?;
    let (mut origin, mut replica) = busy(&cluster, dir.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let held = runtime.block_on(hold(&Client::new(origin.server().parse()?, None), "backfill"))?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("node-page");
    fs::create_dir_all(&folder)?;
    let mut browser = Browser::start()?;
    for (width, size) in [(1_280, "wide"), (390, "narrow")] {
        for scheme in ["light", "dark"] {
            for scripts in [false, true] {
                let view = View { width, scheme, scripts };
                let status = open(&mut browser, &origin, view)?;
                let ran = browser.evaluate("typeof refresh")? == "function";
                ensure!(ran == scripts, "{view:?}: the page's script ran: {ran}");
                is_true(&mut browser, &status).with_context(|| format!("{view:?}"))?;
                can_be_read(&mut browser).with_context(|| format!("{view:?}"))?;
                let complaints = browser.complaints();
                ensure!(complaints.is_empty(), "{view:?}: {complaints:#?}");
                let name = format!("{size}-{scheme}{}.png", if scripts { "" } else { "-no-script" });
                let picture = browser.picture()?;
                ensure!(picture.len() > 10_000, "{name} has {} bytes", picture.len());
                fs::write(folder.join(name), picture)?;
            }
        }
    }
    // Without scripts it loads itself again, and then says something new.
    let view = View { width: 1_280, scheme: "light", scripts: false };
    open(&mut browser, &origin, view)?;
    drop(held);
    browser.wait_for("Page.loadEventFired")?;
    let held = browser.evaluate("document.getElementById('tokens-held').textContent")?;
    ensure!(held == "0", "{held} tokens on a page that was loaded again");
    println!("pictures are in {}", folder.display());
    cluster.mon("a").resume()?;
    origin.update("complete")?;
    replica.stop()?;
    origin.stop()
}
