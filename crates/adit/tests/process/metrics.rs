//! What processes show to those who watch them, beside what docs/metrics.md says.

use std::{collections::BTreeSet, fs, path::Path};

/// Metrics' names and types.
pub(crate) type Types = BTreeSet<(String, String)>;

/// A GET by nobody, answered with a status and a text.
pub(crate) fn ask(url: &str, header: Option<(&str, &str)>) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let request = header.iter().fold(agent.get(url), |request, (name, value)| {
        request.header(*name, *value)
    });
    let mut reply = request.call().ok()?;
    let text = reply.body_mut().read_to_string().ok()?;
    Some((reply.status().as_u16(), text))
}

/// Those of the text form.
pub(crate) fn types(metrics: &str) -> Types {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(n, t)| (n.to_owned(), t.to_owned()))
        .collect()
}

/// Those in the table below a heading of the documentation.
pub(crate) fn documented(heading: &str) -> Types {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md")).unwrap();
    let mut lines = page
        .lines()
        .skip_while(|line| line.trim_start_matches(['#', ' ']) != heading);
    assert!(lines.next().is_some(), "{heading}");
    let rows = lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let name = cells.next()?.trim().trim_end_matches('`');
            Some((name.to_owned(), cells.next()?.trim().to_owned()))
        });
    rows.collect()
}

/// A number of the text form, by name and labels.
pub(crate) fn number(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse().ok()
}
