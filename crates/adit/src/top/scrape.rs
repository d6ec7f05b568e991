//! What `/metrics` says of traffic, read out of Prometheus' text form. Pure.

use std::{collections::BTreeMap, time::Instant};

/// The metrics at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// All endpoints together.
    pub(super) total: Counts,
    /// Those that are shown one by one, by their ids.
    pub(super) endpoints: BTreeMap<String, Counts>,
    /// How many are not.
    pub(super) unlisted: u64,
}

/// What is counted of an endpoint, or of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) open: f64,
    pub(super) taken: f64,
    /// By their reasons.
    pub(super) ended: BTreeMap<String, f64>,
    pub(super) to_backend: f64,
    pub(super) to_client: f64,
    pub(super) connect_s: f64,
    pub(super) connects: f64,
}

/// Names and values.
type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Sample {
    /// Reads what there is; `None` where the text has nothing of a gateway.
    pub(super) fn parse(text: &str, at: Instant) -> Option<Self> {
        let mut sample = Self {
            at,
            total: Counts::default(),
            endpoints: BTreeMap::new(),
            unlisted: 0,
        };
        let mut some = false;
        for (name, labels, value) in text.lines().filter_map(line) {
            let name = name.strip_prefix("adit_").unwrap_or_default();
            if name == "endpoints_unlisted" {
                sample.unlisted = value as u64;
            } else if let Some(what) = name.strip_prefix("gateway_") {
                some |= sample.total.take(what, &labels, value);
            } else if let (Some(what), Some(id)) =
                (name.strip_prefix("endpoint_"), label(&labels, "endpoint"))
            {
                let counts = sample.endpoints.entry(id.to_owned()).or_default();
                counts.take(what, &labels, value);
            }
        }
        some.then_some(sample)
    }
}

impl Counts {
    fn take(&mut self, what: &str, labels: &[(&str, &str)], value: f64) -> bool {
        let place = match (what, label(labels, "to"), label(labels, "reason")) {
            ("connections_open", ..) => &mut self.open,
            ("connections_total", ..) => &mut self.taken,
            ("connections_ended_total", _, Some(reason)) => self.ended.entry(reason.to_owned()).or_default(),
            ("bytes_total", Some("backend"), _) => &mut self.to_backend,
            ("bytes_total", Some("client"), _) => &mut self.to_client,
            ("backend_connect_duration_seconds_sum", ..) => &mut self.connect_s,
            ("backend_connect_duration_seconds_count", ..) => &mut self.connects,
            _ => return false,
        };
        *place = value;
        true
    }
}

fn label<'a>(labels: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    labels.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// A line: name, labels, value. The values of Adit's labels have nothing in them that would have to be escaped.
fn line(line: &str) -> Option<(&str, Labels<'_>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series, Vec::new(), value));
    };
    let labels = labels.strip_suffix('}')?.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name, value.strip_prefix('"')?.strip_suffix('"')?))
    });
    Some((name, labels.collect(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_the_rest_passed_over() {
        let text = "\
# HELP adit_gateway_connections_open Connections that are open
adit_gateway_connections_open 3
adit_gateway_connections_total 10
adit_gateway_connections_ended_total{reason=\"closed\"} 6
adit_gateway_connections_ended_total{reason=\"limit\"} 1
adit_gateway_bytes_total{to=\"backend\"} 100
adit_gateway_bytes_total{to=\"client\"} 200
adit_gateway_backend_connect_duration_seconds_sum 0.5
adit_gateway_backend_connect_duration_seconds_count 9
adit_gateway_backend_connect_duration_seconds_bucket{le=\"+Inf\"} 9
adit_endpoints_unlisted 4
adit_endpoint_connections_open{endpoint=\"e1\"} 2
adit_endpoint_bytes_total{endpoint=\"e1\",to=\"client\"} 7
adit_endpoint_connections_ended_total{endpoint=\"e2\",reason=\"rate\"} 5
adit_http_requests_total{method=\"GET\",route=\"/v1/{project_id}/quotas\",status=\"200\"} 1
nonsense
# EOF
";
        let at = Instant::now();
        let sample = Sample::parse(text, at).unwrap();
        let ended = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let total = Counts {
            open: 3.0,
            taken: 10.0,
            ended: ended(&[("closed", 6.0), ("limit", 1.0)]),
            to_backend: 100.0,
            to_client: 200.0,
            connect_s: 0.5,
            connects: 9.0,
        };
        let one = Counts {
            open: 2.0,
            to_client: 7.0,
            ..Counts::default()
        };
        let two = Counts {
            ended: ended(&[("rate", 5.0)]),
            ..Counts::default()
        };
        let endpoints = [("e1".to_owned(), one), ("e2".to_owned(), two)].into();
        assert_eq!(
            sample,
            Sample {
                at,
                total,
                endpoints,
                unlisted: 4
            }
        );
        assert_eq!(Sample::parse("<html>", at), None);
        assert_eq!(Sample::parse("adit_store_up 1\n", at), None);
    }
}
