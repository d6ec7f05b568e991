//! What a process of the control plane shows of the cluster, read when somebody asks.

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::app::App;

/// The cluster, as this process knows it.
pub(crate) struct Cluster(pub(crate) Weak<App>);

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Collector for Cluster {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(app) = self.0.upgrade() else {
            return Ok(());
        };
        let (leads, gateways, moves) = (app.feed.is_open(), app.feed.followers(), app.feed.moves());
        let epoch = app
            .cache
            .read()
            .placement(&app.config.pool)
            .map_or(0, |placement| placement.epoch());
        for (name, help, value) in [
            (
                "leader",
                "Whether this process runs the reconcilers: 1, or 0",
                u64::from(leads),
            ),
            (
                "feed_gateways",
                "Gateways that follow the feed of this process",
                gateways,
            ),
            (
                "placement_epoch",
                "How often it was planned anew which gateway serves what",
                epoch,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let counter = ConstCounter::new(moves);
        let help = "Endpoints that a gateway was told to let go of since another has them";
        let metric = encoder.encode_descriptor("feed_moves", help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}
