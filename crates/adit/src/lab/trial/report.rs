//! What was found, as a table for people and JSON for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    failover::{Failovers, Times},
    run::Outcome,
};

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One for each failure.
    pub cells: Vec<Outcome>,
    /// What the deaths of gateways showed.
    pub failovers: Option<Failovers>,
    /// From asking for an endpoint to its first byte.
    pub first_byte: Option<Times>,
    /// How many creates and deletes were answered, of services that were read back at the end.
    pub promised: (usize, usize),
    /// What broke the trial off.
    pub broken_off: Option<String>,
}

impl Report {
    /// Whether everything came back, and nothing was lost.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.broken_off.is_none() && self.cells.iter().all(Outcome::is_well)
    }

    /// In Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.cells.is_empty() {
            text += "| What failed, and how | API: longest without an answer, and errors | Service ordered with it, available after | Endpoint: longest \
                     without a new connection, and errors | The open connection | Nobody / two answered ARP | All well after mending | Lost |\n\
                     |---|---|---|---|---|---|---|---|\n";
            self.cells.iter().for_each(|cell| text += &row(cell));
            let (created, deleted) = self.promised;
            text += &format!(
                "\nRead back at every control plane after each: {created} services whose create was answered, {deleted} whose delete was.\n"
            );
        }
        if let Some(failovers) = &self.failovers {
            text += "\n| Gateway killed (ms) | median | worst |\n|---|---|---|\n";
            for (what, times) in [
                ("until traffic goes through another", &failovers.traffic),
                ("nobody answers for the address", &failovers.nobody),
                ("two answer for it", &failovers.two),
            ] {
                text += &format!(
                    "| {what} (of {}) | {} | {} |\n",
                    times.count, times.median_ms, times.worst_ms
                );
            }
        }
        if let Some(times) = &self.first_byte {
            text += &format!(
                "\n| Endpoint asked for, until its first byte (ms) | p50 | p99 | worst |\n|---|---|---|---|\n| of {} | {} | {} | {} |\n",
                times.count, times.median_ms, times.p99_ms, times.worst_ms
            );
        }
        for cell in self.cells.iter().filter(|cell| !cell.is_well()) {
            let why = cell
                .not_recovered
                .clone()
                .into_iter()
                .chain(cell.lost.iter().cloned());
            let why: Vec<_> = why.take(5).collect();
            text += &format!("\nNOT WELL: {}: {}\n", cell.cell, why.join("; "));
        }
        if let Some(why) = &self.broken_off {
            text += &format!("\nBROKEN OFF: {why}\n");
        }
        text
    }
}

fn row(cell: &Outcome) -> String {
    let ended = match cell.ended.is_empty() {
        true => String::new(),
        false => " (ended by itself)".to_owned(),
    };
    let or_never = |ms: Option<u128>| ms.map_or_else(|| "never".to_owned(), seconds);
    let etcd = cell
        .etcd_ms
        .map_or_else(String::new, |ms| format!(" (etcd itself {})", seconds(ms)));
    let open = match counts(&cell.open_ends) {
        ends if ends.is_empty() => format!("lived, silent for {}", seconds(cell.open_gap_ms)),
        ends => ends,
    };
    format!(
        "| {}{ended} | {}{} | {} | {}{} | {open} | {} / {} ms | {} | {} |\n",
        cell.cell,
        seconds(cell.api_gap_ms),
        after(&counts(&cell.api_errors)),
        or_never(cell.ordered_ms),
        seconds(cell.endpoint_gap_ms),
        after(&counts(&cell.endpoint_errors)),
        cell.nobody_ms,
        cell.two_ms,
        or_never(cell.recovered_ms) + &etcd,
        match cell.lost.len() {
            0 => "nothing".to_owned(),
            count => format!("**{count}**"),
        },
    )
}

fn seconds(ms: u128) -> String {
    format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
}

fn after(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!("; {text}"),
    }
}

fn counts(all: &BTreeMap<String, u32>) -> String {
    let each: Vec<_> = all
        .iter()
        .map(|(what, count)| format!("{count} × {what}"))
        .collect();
    each.join(", ")
}
