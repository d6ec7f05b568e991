//! What the gateway's relay counts, in Prometheus' form: all connections together, and those of the busiest endpoints.
//!
//! Read when somebody asks; nothing is counted twice. How many endpoints are shown is bounded, whatever tenants make: the
//! busiest since the gateway began, by their ids.

use std::{
    cmp::Reverse,
    fmt,
    sync::{Arc, Weak},
};

use adit_gateway::{Gateway, connection_log::Losses, health::Backends, setback::Setback};
use adit_relay::{CONNECT_BOUNDS, ConnectTimes, End, OwnerStats, Snapshot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use uuid::Uuid;

use crate::data_plane::ENDPOINT_METRICS_MAX;

/// What is shown of a gateway.
pub(crate) struct Traffic {
    /// None while there is none: the numbers are 0 then.
    gateway: Weak<Gateway>,
    losses: Option<Losses>,
    endpoints_max: usize,
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic")
            .field("endpoints_max", &self.endpoints_max)
            .finish_non_exhaustive()
    }
}

/// What connections are counted for that the kernel sent out without TOA.
const TOA_MISSING: &str =
    "Connections whose client's address should have been in the TCP header, and was not";

/// One number of an owner's.
type Number = fn(&OwnerStats) -> u64;

impl Traffic {
    pub(crate) fn new(gateway: Weak<Gateway>, losses: Option<Losses>, endpoints_max: usize) -> Self {
        Self {
            gateway,
            losses,
            endpoints_max,
        }
    }
}

/// What is shown of a gateway that serves no `/metrics`, as text.
pub(crate) fn text(gateway: &Arc<Gateway>) -> String {
    let mut registry = Registry::with_prefix("adit");
    let traffic = Traffic::new(Arc::downgrade(gateway), None, ENDPOINT_METRICS_MAX.into());
    registry.register_collector(Box::new(traffic));
    let mut text = String::new();
    // A String takes everything.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let gateway = self.gateway.upgrade();
        let backends = gateway.as_ref().map(|gateway| gateway.backends());
        let setbacks = gateway.as_ref().map(|gateway| gateway.setbacks());
        let snapshot = gateway.map(|gateway| gateway.snapshot()).unwrap_or_default();
        let mut out = Out(encoder);
        whole(&mut out, &snapshot, self.losses.as_ref().map_or(0, Losses::count))?;
        health(&mut out, backends.unwrap_or_default())?;
        waits(&mut out, &setbacks.unwrap_or_default())?;
        each(&mut out, busiest(snapshot.owners, self.endpoints_max))
    }
}

/// Everything together.
fn whole(out: &mut Out<'_>, snapshot: &Snapshot, lost: u64) -> fmt::Result {
    let total = snapshot.total();
    for (name, help, value) in [
        (
            "gateway_listeners",
            "Ports of endpoints that are listened on",
            snapshot.listeners,
        ),
        (
            "gateway_descriptors_used",
            "Descriptors that the relay holds",
            snapshot.descriptors_used,
        ),
        (
            "gateway_descriptors_budget",
            "Descriptors that the relay may hold",
            snapshot.descriptors_budget,
        ),
        (
            "gateway_connections_open",
            "Connections that are open",
            total.active as usize,
        ),
    ] {
        let mut metric = out.metric(name, help, MetricType::Gauge)?;
        metric.encode_gauge(&(value as u64))?;
    }
    for (name, help, value) in [
        (
            "gateway_connections",
            "Connections taken from clients, refused ones included",
            total.accepted,
        ),
        (
            "gateway_pipes_refused",
            "Times that there was no pipe to splice through, so that bytes were copied",
            snapshot.pipes_refused,
        ),
        (
            "gateway_connection_records_lost",
            "Lines of the connection log that could not be written in time",
            lost,
        ),
        ("gateway_toa_missing", TOA_MISSING, total.toa_missing),
    ] {
        let mut metric = out.metric(name, help, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    let mut metric = out.metric(
        "gateway_connections_ended",
        "Connections that ended, by why",
        MetricType::Counter,
    )?;
    for end in End::ALL {
        let labels = [("reason", end.name())];
        let mut one = metric.encode_family(&labels)?;
        one.encode_counter::<NoLabelSet, _, u64>(&total.ended(end), None)?;
    }
    let mut metric = out.metric(
        "gateway_bytes",
        "Bytes handed on, by whom to",
        MetricType::Counter,
    )?;
    bytes(&mut metric, &total, None)?;
    let mut metric = out.seconds(
        "gateway_backend_connect_duration",
        "How long backends took to answer, from the client's accept on",
    )?;
    histogram(&mut metric, &total.connect_times)
}

/// How backends answered when they were asked last.
fn health(out: &mut Out<'_>, backends: Backends) -> fmt::Result {
    let mut metric = out.metric(
        "gateway_backend_ports",
        "Ports of services' backends, by how they answered when they were asked last",
        MetricType::Gauge,
    )?;
    for (state, value) in [("up", backends.up), ("down", backends.down)] {
        metric
            .encode_family(&[("state", state)])?
            .encode_gauge(&(value as u64))?;
    }
    Ok(())
}

/// What endpoints had to wait for.
fn waits(out: &mut Out<'_>, setbacks: &[(Setback, u64)]) -> fmt::Result {
    let mut metric = out.metric(
        "gateway_setbacks",
        "Attempts to serve an endpoint as it should be that failed for the moment, by why",
        MetricType::Counter,
    )?;
    for (setback, count) in setbacks {
        metric
            .encode_family(&[("reason", setback.name())])?
            .encode_counter::<NoLabelSet, _, u64>(count, None)?;
    }
    Ok(())
}

/// The endpoints that have had most connections, and how many others there are.
fn busiest(mut owners: Vec<OwnerStats>, most: usize) -> (Vec<OwnerStats>, usize) {
    owners.sort_by_key(|owner| (Reverse(owner.accepted), owner.owner));
    let others = owners.len().saturating_sub(most);
    owners.truncate(most);
    (owners, others)
}

/// Some endpoints, each by itself.
fn each(out: &mut Out<'_>, (owners, others): (Vec<OwnerStats>, usize)) -> fmt::Result {
    let mut metric = out.metric(
        "endpoints_unlisted",
        "Endpoints that are too many to be shown one by one",
        MetricType::Gauge,
    )?;
    metric.encode_gauge(&(others as u64))?;
    let ids: Vec<String> = owners
        .iter()
        .map(|owner| Uuid::from_u128(owner.owner).to_string())
        .collect();
    let mut metric = out.metric(
        "endpoint_connections_open",
        "Connections that are open",
        MetricType::Gauge,
    )?;
    for (owner, id) in owners.iter().zip(&ids) {
        metric
            .encode_family(&[("endpoint", id)])?
            .encode_gauge(&owner.active)?;
    }
    let counters: [(&str, &str, Number); 2] = [
        (
            "endpoint_connections",
            "Connections taken from clients, refused ones included",
            |owner| owner.accepted,
        ),
        ("endpoint_toa_missing", TOA_MISSING, |owner| owner.toa_missing),
    ];
    for (name, help, number) in counters {
        let mut metric = out.metric(name, help, MetricType::Counter)?;
        for (owner, id) in owners.iter().zip(&ids) {
            metric
                .encode_family(&[("endpoint", id)])?
                .encode_counter::<NoLabelSet, _, u64>(&number(owner), None)?;
        }
    }
    let mut metric = out.metric(
        "endpoint_connections_ended",
        "Connections that ended, by why",
        MetricType::Counter,
    )?;
    for (owner, id) in owners.iter().zip(&ids) {
        for end in End::ALL.into_iter().filter(|end| owner.ended(*end) > 0) {
            metric
                .encode_family(&[("endpoint", id.as_str()), ("reason", end.name())])?
                .encode_counter::<NoLabelSet, _, u64>(&owner.ended(end), None)?;
        }
    }
    let mut metric = out.metric(
        "endpoint_bytes",
        "Bytes handed on, by whom to",
        MetricType::Counter,
    )?;
    for (owner, id) in owners.iter().zip(&ids) {
        bytes(&mut metric, owner, Some(id))?;
    }
    let mut metric = out.seconds(
        "endpoint_backend_connect_duration",
        "How long backends took to answer, from the client's accept on",
    )?;
    for (owner, id) in owners.iter().zip(&ids) {
        histogram(
            &mut metric.encode_family(&[("endpoint", id)])?,
            &owner.connect_times,
        )?;
    }
    Ok(())
}

fn bytes(metric: &mut MetricEncoder<'_>, owner: &OwnerStats, id: Option<&str>) -> fmt::Result {
    for (to, value) in [
        ("backend", owner.bytes_to_backend),
        ("client", owner.bytes_to_client),
    ] {
        let to = ("to", to);
        let labels: Vec<_> = id.map(|id| ("endpoint", id)).into_iter().chain([to]).collect();
        metric
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn histogram(metric: &mut MetricEncoder<'_>, times: &ConnectTimes) -> fmt::Result {
    let bounds = CONNECT_BOUNDS.iter().map(std::time::Duration::as_secs_f64);
    // The encoder adds them up.
    let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(times.buckets).collect();
    metric.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), times.count(), &buckets, None)
}

/// Where metrics go.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn metric<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn seconds<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn without_a_gateway_all_is_nothing() {
        let mut registry = Registry::with_prefix("adit");
        registry.register_collector(Box::new(Traffic::new(Weak::new(), None, 10)));
        let mut shown = String::new();
        text::encode(&mut shown, &registry).unwrap();
        for line in [
            "adit_gateway_connections_total 0",
            "adit_gateway_connections_ended_total{reason=\"idle\"} 0",
            "adit_gateway_bytes_total{to=\"client\"} 0",
            "adit_gateway_backend_connect_duration_seconds_bucket{le=\"+Inf\"} 0",
            "adit_gateway_toa_missing_total 0",
            "adit_endpoints_unlisted 0",
            "# TYPE adit_endpoint_toa_missing counter",
            "# TYPE adit_endpoint_bytes counter",
        ] {
            assert!(
                shown.lines().any(|shown| shown == line),
                "{line} is not in\n{shown}"
            );
        }
    }
}
