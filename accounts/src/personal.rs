//! Personal data on its way into a column and back. Each kind passes here and nowhere else.

use std::net::IpAddr;

use tacit_keys::PresharedKey;
use tacit_messages::ConnectingIp;

use crate::{EmailAddress, StoreError};

pub(crate) fn email_column(email: &EmailAddress) -> &str {
    email.expose()
}

pub(crate) fn read_email(column: &str) -> Result<EmailAddress, StoreError> {
    EmailAddress::parse(column).map_err(|_| StoreError::Corrupt("accounts.email"))
}

pub(crate) fn connecting_ip_column(connecting_ip: ConnectingIp) -> String {
    connecting_ip.expose().to_string()
}

pub(crate) fn read_connecting_ip(column: &str) -> Result<ConnectingIp, StoreError> {
    let ip: IpAddr = column.parse().map_err(|_| StoreError::Corrupt("sessions.connecting_ip"))?;
    Ok(ConnectingIp::new(ip))
}

pub(crate) fn preshared_key_column(key: &PresharedKey) -> &[u8] {
    key.expose()
}

pub(crate) fn read_preshared_key(column: &[u8]) -> Result<PresharedKey, StoreError> {
    let bytes = column.try_into().map_err(|_| StoreError::Corrupt("devices.preshared_key"))?;
    Ok(PresharedKey::from_bytes(bytes))
}
