//! Which modes of `tcp_proxy` a host can serve. Pure.

use adit_model::{
    error_chain,
    feed::{Capabilities, MissingMode},
    service::TcpProxy,
};
use adit_relay::toa::ToaError;

/// What a gateway can do: everything where TOA works, and without it all modes that do not have it.
pub fn capabilities(toa: Result<(), &ToaError>) -> Capabilities {
    let mut capabilities = Capabilities::default();
    for mode in TcpProxy::ALL.iter().copied() {
        match toa {
            Err(error) if mode.has_toa() => capabilities.missing.push(MissingMode {
                tcp_proxy: mode,
                reason: error_chain(error),
                remedy: error.remedy().to_owned(),
            }),
            _ => capabilities.tcp_proxy.push(mode),
        }
    }
    capabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_there_or_its_absence_is_explained() {
        assert_eq!(capabilities(Ok(())).tcp_proxy, TcpProxy::ALL);
        let capabilities = capabilities(Err(&ToaError::UserNamespace));
        assert_eq!(
            capabilities.tcp_proxy,
            [TcpProxy::Close, TcpProxy::ProxyOpen, TcpProxy::ProxyVni]
        );
        let missing: Vec<_> = capabilities.missing.iter().map(|m| m.tcp_proxy).collect();
        assert_eq!(missing, [TcpProxy::ToaOpen, TcpProxy::Open]);
        for missing in capabilities.missing {
            assert!(missing.reason.contains("user namespace"), "{}", missing.reason);
            assert!(missing.remedy.starts_with("Run as root"), "{}", missing.remedy);
        }
    }
}
