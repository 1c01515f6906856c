//! Finds the futures of a crate in its source, so that a test can say that it has dropped them all.

/// The public futures and streams that the source below `folder` has: types by their name, functions as `fn name`.
pub(crate) fn futures_in(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(futures_in(path.to_str().unwrap()));
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim_start) {
            let word =
                |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
            if let Some((_, rest)) = line.split_once("Future for ").or(line.split_once("Stream for ")) {
                found.extend(word(rest));
            } else if let Some(rest) = line.strip_prefix("pub async fn ") {
                found.extend(word(rest).map(|name| format!("fn {name}")));
            } else if line.starts_with("pub fn") && line.contains("impl Future") {
                found.extend(line.split("fn ").nth(1).and_then(word).map(|name| format!("fn {name}")));
            }
        }
    }
    found.sort();
    found
}
