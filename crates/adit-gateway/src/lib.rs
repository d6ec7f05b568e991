//! adit-gateway
