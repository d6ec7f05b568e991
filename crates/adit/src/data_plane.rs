//! What an operator sets for the data plane: flags, and what they mean to the control plane and the gateway.
//!
//! Owns the words and the defaults of the settings; what they do is the gateway's.

use std::{num::NonZeroU32, time::Duration};

use adit_gateway::connection_log::Bounds;
use adit_model::{
    proxy::{ProxyHeader, ProxyProfile},
    sink::Sink,
};
use adit_relay::{Close, toa::KIND_DEFAULT};
use clap::{ArgAction, Args, builder::BoolishValueParser};

/// At most so many connections at a time through one endpoint (spec semantics 14).
const CONNECTIONS_PER_ENDPOINT_MAX: u32 = 3_000;
/// How soon it is seen that a backend is away.
const PROBE_PERIOD_S: u32 = 10;
/// So many endpoints are a few thousand lines of metrics.
pub(crate) const ENDPOINT_METRICS_MAX: u16 = 100;
/// Some 600,000 connections.
const CONNECTION_LOG_MIB: u32 = 256;
const CONNECTION_LOG_FILES: u16 = 4;
/// A connection that is silent for so long is reset.
const IDLE_TIMEOUT_S: u32 = 3_600;
/// A backend that takes longer to answer a connect is not there.
const CONNECT_TIMEOUT_S: u32 = 10;

/// How connections are treated.
#[derive(Clone, Debug, Default, Args)]
pub struct DataPlane {
    /// What endpoints get.
    #[command(flatten)]
    pub terms: Terms,
    /// How a gateway works.
    #[command(flatten)]
    pub work: Work,
}

/// What endpoints get: the control plane's settings, which gateways are told.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data plane")]
pub struct Terms {
    /// Whose parsers the PROXY header is for, in services that have no profile of their own: `vpcep` (marker id and VNI),
    /// `aws`, `gcp`, `azure`, `archer` (as those name their endpoints), `v1` (text).
    #[arg(long, env = "ADIT_PROXY_PROFILE", value_name = "PROFILE", default_value = "vpcep", value_parser = profile)]
    pub proxy_profile: ProxyProfile,
    /// The TLV type of the marker id in the profile `vpcep`, 0xe0 to 0xf7.
    #[arg(long, env = "ADIT_PROXY_MARKER_TYPE", value_name = "TYPE", default_value = "0xe4", value_parser = byte)]
    pub proxy_marker_type: u8,
    /// The TLV type of the consumer's VNI, 0xe0 to 0xf7.
    #[arg(long, env = "ADIT_PROXY_VNI_TYPE", value_name = "TYPE", default_value = "0xe5", value_parser = byte)]
    pub proxy_vni_type: u8,
    /// End binary PROXY headers with a CRC32C.
    #[arg(
        long, env = "ADIT_PROXY_CHECKSUM",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub proxy_checksum: bool,
    /// Connections at a time through one endpoint; the next is reset.
    #[arg(
        long, env = "ADIT_CONNECTIONS_PER_ENDPOINT", value_name = "COUNT",
        default_value_t = CONNECTIONS_PER_ENDPOINT_MAX, value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub connections_per_endpoint: u32,
    /// New connections per second through one endpoint; the next is reset [default: as many as come].
    #[arg(long, env = "ADIT_NEW_CONNECTIONS_PER_SECOND", value_name = "COUNT")]
    pub new_connections_per_second: Option<NonZeroU32>,
    /// Seconds that connections may go on once their endpoint is rejected, disabled or deleted; 0 cuts them at once.
    #[arg(long, env = "ADIT_DRAIN_S", value_name = "SECONDS", default_value_t = 0)]
    pub drain_s: u32,
}

/// How a gateway works.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data plane")]
pub struct Work {
    /// The kind of the TCP option that TOA is in, 35 to 255.
    #[arg(
        long, env = "ADIT_TOA_KIND", value_name = "KIND", default_value_t = KIND_DEFAULT,
        value_parser = clap::value_parser!(u8).range(35..)
    )]
    pub toa_kind: u8,
    /// Seconds that connections may go on once the region is told to stop; a second signal cuts them.
    #[arg(long, env = "ADIT_STOP_DRAIN_S", value_name = "SECONDS", default_value_t = 0)]
    pub stop_drain_s: u32,
    /// Seconds between two probes of each backend that endpoints lead to; 0 for none.
    #[arg(long, env = "ADIT_PROBE_PERIOD_S", value_name = "SECONDS", default_value_t = PROBE_PERIOD_S)]
    pub probe_period_s: u32,
    /// Endpoints that the metrics show one by one: those that have had most connections.
    #[arg(long, env = "ADIT_ENDPOINT_METRICS", value_name = "COUNT", default_value_t = ENDPOINT_METRICS_MAX)]
    pub endpoint_metrics: u16,
    /// Write a line of JSON for each connection that has ended, refused ones included: to this file, or `-` for standard output.
    /// Opened anew at SIGHUP.
    #[arg(long, env = "ADIT_CONNECTION_LOG", value_name = "FILE")]
    pub connection_log: Option<Sink>,
    /// Megabytes (MiB) that a file of the connection log may have; then it becomes FILE.1, that one FILE.2 and so on, and another is
    /// begun. 0: as large as it will, for who rotates logs otherwise.
    #[arg(long, env = "ADIT_CONNECTION_LOG_MIB", value_name = "MIB", default_value_t = CONNECTION_LOG_MIB)]
    pub connection_log_mib: u32,
    /// Former files of the connection log that are kept.
    #[arg(long, env = "ADIT_CONNECTION_LOG_FILES", value_name = "COUNT", default_value_t = CONNECTION_LOG_FILES)]
    pub connection_log_files: u16,
    /// Seconds after which a silent connection is reset on both sides.
    #[arg(
        long, env = "ADIT_IDLE_TIMEOUT_S", value_name = "SECONDS", default_value_t = IDLE_TIMEOUT_S,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub idle_timeout_s: u32,
    /// Seconds that a backend has to answer a connect.
    #[arg(
        long, env = "ADIT_CONNECT_TIMEOUT_S", value_name = "SECONDS", default_value_t = CONNECT_TIMEOUT_S,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub connect_timeout_s: u32,
}

impl Default for Terms {
    fn default() -> Self {
        let header = ProxyHeader::default();
        Self {
            proxy_profile: header.profile,
            proxy_marker_type: header.marker_type,
            proxy_vni_type: header.vni_type,
            proxy_checksum: header.checksum,
            connections_per_endpoint: CONNECTIONS_PER_ENDPOINT_MAX,
            new_connections_per_second: None,
            drain_s: 0,
        }
    }
}

impl Default for Work {
    fn default() -> Self {
        Self {
            toa_kind: KIND_DEFAULT,
            stop_drain_s: 0,
            probe_period_s: PROBE_PERIOD_S,
            endpoint_metrics: ENDPOINT_METRICS_MAX,
            connection_log: None,
            connection_log_mib: CONNECTION_LOG_MIB,
            connection_log_files: CONNECTION_LOG_FILES,
            idle_timeout_s: IDLE_TIMEOUT_S,
            connect_timeout_s: CONNECT_TIMEOUT_S,
        }
    }
}

impl Terms {
    /// The PROXY header of services that have no profile of their own.
    ///
    /// # Errors
    /// Where the settings do not go together; what is wrong, for a person.
    pub fn proxy(&self) -> Result<ProxyHeader, String> {
        let header = ProxyHeader {
            profile: self.proxy_profile,
            marker_type: self.proxy_marker_type,
            vni_type: self.proxy_vni_type,
            checksum: self.proxy_checksum,
        };
        header.check().map(|()| header)
    }
}

impl Work {
    /// What becomes of connections when the gateway stops.
    pub fn stop(&self) -> Close {
        match self.stop_drain_s {
            0 => Close::Cut,
            seconds => Close::Drain {
                within: Duration::from_secs(seconds.into()),
            },
        }
    }

    /// How much is kept of the connection log.
    pub fn connection_log_bounds(&self) -> Bounds {
        match self.connection_log_mib {
            0 => Bounds::NONE,
            mib => Bounds {
                file_bytes_max: u64::from(mib) << 20,
                former_max: self.connection_log_files,
            },
        }
    }

    /// How often backends are probed.
    pub fn probe_period(&self) -> Option<Duration> {
        (self.probe_period_s > 0).then(|| Duration::from_secs(self.probe_period_s.into()))
    }

    /// How the relay runs.
    pub fn relay(&self) -> adit_relay::Config {
        adit_relay::Config {
            idle_timeout: Duration::from_secs(self.idle_timeout_s.into()),
            connect_timeout: Duration::from_secs(self.connect_timeout_s.into()),
            ..adit_relay::Config::default()
        }
    }
}

fn profile(word: &str) -> Result<ProxyProfile, String> {
    ProxyProfile::from_wire(word).ok_or_else(|| {
        let words: Vec<_> = ProxyProfile::ALL.iter().map(|profile| profile.as_str()).collect();
        format!("it is not one of {}", words.join(", "))
    })
}

/// A number in hexadecimal or decimal.
fn byte(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "it is not a number from 0 to 255, such as 228 or 0xe4".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        data_plane: DataPlane,
    }

    fn read(words: &[&str]) -> Result<DataPlane, clap::Error> {
        Line::try_parse_from(["adit"].iter().chain(words)).map(|line| line.data_plane)
    }

    #[test]
    fn the_defaults_are_the_flags_own() {
        assert_eq!(
            format!("{:?}", read(&[]).unwrap()),
            format!("{:?}", DataPlane::default())
        );
        assert_eq!(read(&[]).unwrap().terms.proxy(), Ok(ProxyHeader::default()));
    }

    #[test]
    fn types_are_hexadecimal_or_decimal_and_must_go_together() {
        let proxy = |words: &[&str]| read(words).map_err(|e| e.to_string())?.terms.proxy();
        let header = proxy(&[
            "--proxy-marker-type=0xE1",
            "--proxy-vni-type",
            "240",
            "--proxy-checksum",
        ])
        .unwrap();
        assert_eq!(
            (header.marker_type, header.vni_type, header.checksum),
            (0xe1, 0xf0, true)
        );
        assert_eq!(proxy(&["--proxy-profile=v1"]).unwrap().profile, ProxyProfile::V1);
        for (wrong, named) in [
            ("--proxy-marker-type=0xe5", "0xe5"),
            ("--proxy-marker-type=3", "0x03"),
            ("--proxy-marker-type=256", "256"),
            ("--proxy-profile=haproxy", "haproxy"),
        ] {
            let error = proxy(&[wrong]).unwrap_err();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }
}
