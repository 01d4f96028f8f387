//! Personal data on its way into a column and back. Each kind passes here and nowhere else; here it is sealed and opened.

use std::net::Ipv6Addr;

use tacit_keys::{
    DataKey, DataKeys, PresharedKey,
    data_key::{OpenError, Place},
};
use tacit_messages::{ConnectingIp, DeviceId};
use zeroize::Zeroizing;

use crate::{AccountId, EmailAddress, StoreError, devices::id_column};

/// Sealed texts have lengths in steps of this many bytes, so that a length tells little.
const TEXT_STEP: usize = 64;

/// A column whose values are sealed.
#[derive(Clone, Copy)]
pub(crate) struct SealedColumn {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    /// The two as errors name them.
    pub(crate) name: &'static str,
}

/// A column by the names of its table and itself.
macro_rules! sealed {
    ($table:literal, $column:literal) => {
        SealedColumn { table: $table, column: $column, name: concat!($table, ".", $column) }
    };
}

pub(crate) const EMAIL: SealedColumn = sealed!("accounts", "email");
pub(crate) const PRESHARED_KEY: SealedColumn = sealed!("devices", "preshared_key");
pub(crate) const CONNECTING_IP: SealedColumn = sealed!("sessions", "connecting_ip");
pub(crate) const PASSWORD: SealedColumn = sealed!("accounts", "password");
pub(crate) const PENDING_EMAIL: SealedColumn = sealed!("pending_addresses", "email");
pub(crate) const PENDING_PASSWORD: SealedColumn = sealed!("pending_addresses", "password");
pub(crate) const ARCHIVED: SealedColumn = sealed!("archive", "value");
pub(crate) const CONSENT_RECIPIENT: SealedColumn = sealed!("consents", "recipient");
pub(crate) const REFERENCE: SealedColumn = sealed!("disclosures", "reference");
pub(crate) const RECIPIENT: SealedColumn = sealed!("disclosures", "recipient");
pub(crate) const CHAIN_STATE: SealedColumn = sealed!("chains", "state");
pub(crate) const LETTER: SealedColumn = sealed!("letters", "content");

impl SealedColumn {
    pub(crate) const fn place(self, row: i64) -> Place {
        Place { table: self.table, column: self.column, row }
    }

    pub(crate) fn open(
        self,
        keys: &DataKeys,
        row: i64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        keys.open(self.place(row), sealed).map_err(|error| match error {
            OpenError::OtherKey(_) => StoreError::WrongDataKey,
            OpenError::NotSealed | OpenError::Forged => StoreError::Corrupt(self.name),
        })
    }

    /// Seals text without a NUL, padded so that its length tells little.
    pub(crate) fn seal_text(self, key: &DataKey, row: i64, text: &str) -> Vec<u8> {
        let text = text.as_bytes();
        let mut padded = Zeroizing::new(vec![0; text.len().max(1).next_multiple_of(TEXT_STEP)]);
        padded[..text.len()].copy_from_slice(text);
        key.seal(self.place(row), &padded)
    }

    /// Opens what [`Self::seal_text`] sealed.
    pub(crate) fn open_text(
        self,
        keys: &DataKeys,
        row: i64,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, StoreError> {
        let padded = self.open(keys, row, sealed)?;
        let len = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
        let text = std::str::from_utf8(&padded[..len]);
        text.map(|text| Zeroizing::new(text.to_owned())).map_err(|_| StoreError::Corrupt(self.name))
    }

    /// Opens an e-mail address.
    pub(crate) fn open_email(
        self,
        keys: &DataKeys,
        row: i64,
        sealed: &[u8],
    ) -> Result<EmailAddress, StoreError> {
        let text = self.open_text(keys, row, sealed)?;
        EmailAddress::read(&text).map_err(|_| StoreError::Corrupt(self.name))
    }
}

pub(crate) fn seal_email(key: &DataKey, account: AccountId, email: &EmailAddress) -> Vec<u8> {
    EMAIL.seal_text(key, account.0, email.expose())
}

pub(crate) fn open_email(
    keys: &DataKeys,
    account: AccountId,
    sealed: &[u8],
) -> Result<EmailAddress, StoreError> {
    EMAIL.open_email(keys, account.0, sealed)
}

/// What an account is found by: a hash of its e-mail address that nobody without the key can compute.
pub(crate) fn email_hash(key: &DataKey, email: &EmailAddress) -> Vec<u8> {
    key.look_up_hash(EMAIL.name, email.expose().as_bytes()).to_vec()
}

/// Seals the address as IPv6 has it, so that the length does not tell the family.
pub(crate) fn seal_connecting_ip(key: &DataKey, session: i64, ip: &ConnectingIp) -> Vec<u8> {
    key.seal(CONNECTING_IP.place(session), ip.expose_octets())
}

pub(crate) fn open_connecting_ip(
    keys: &DataKeys,
    session: i64,
    sealed: &[u8],
) -> Result<ConnectingIp, StoreError> {
    let octets = CONNECTING_IP.open(keys, session, sealed)?;
    let octets: [u8; 16] =
        octets[..].try_into().map_err(|_| StoreError::Corrupt(CONNECTING_IP.name))?;
    Ok(ConnectingIp::new(Ipv6Addr::from(octets).into()))
}

pub(crate) fn seal_preshared_key(
    key: &DataKey,
    device: DeviceId,
    preshared_key: &PresharedKey,
) -> Vec<u8> {
    key.seal(PRESHARED_KEY.place(id_column(device)), preshared_key.expose())
}

pub(crate) fn open_preshared_key(
    keys: &DataKeys,
    device: DeviceId,
    sealed: &[u8],
) -> Result<PresharedKey, StoreError> {
    let bytes = PRESHARED_KEY.open(keys, id_column(device), sealed)?;
    let bytes = Zeroizing::new(
        <[u8; 32]>::try_from(&bytes[..]).map_err(|_| StoreError::Corrupt(PRESHARED_KEY.name))?,
    );
    Ok(PresharedKey::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::IpAddr;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(
            key in any::<[u8; 32]>(),
            row in 1..i64::MAX,
            local in "[a-zé]{1,30}",
            domain in "[a-z]{1,63}(\\.[a-z]{1,63}){0,2}",
            ip in any::<IpAddr>(),
            preshared in any::<[u8; 32]>(),
        ) {
            let keys = DataKeys::new(DataKey::from_bytes(key));
            let key = keys.current();
            let email = EmailAddress::parse(&format!("{local}@{domain}")).unwrap();
            let sealed = seal_email(key, AccountId(row), &email);
            prop_assert!(open_email(&keys, AccountId(row), &sealed).unwrap() == email);
            prop_assert!(open_email(&keys, AccountId(row - 1), &sealed).is_err());

            let ip = ConnectingIp::new(ip);
            let sealed = seal_connecting_ip(key, row, &ip);
            prop_assert!(open_connecting_ip(&keys, row, &sealed).unwrap() == ip);
            prop_assert!(open_connecting_ip(&keys, row - 1, &sealed).is_err());

            let (device, preshared) = (DeviceId(row.unsigned_abs()), PresharedKey::from_bytes(preshared));
            let sealed = seal_preshared_key(key, device, &preshared);
            prop_assert!(open_preshared_key(&keys, device, &sealed).unwrap() == preshared);
            prop_assert!(open_preshared_key(&keys, DeviceId(device.0 - 1), &sealed).is_err());
        }
    }

    #[test]
    fn length_tells_neither_an_email_nor_an_ip_family() {
        let key = DataKey::generate();
        let email_len =
            |text: &str| seal_email(&key, AccountId(1), &EmailAddress::parse(text).unwrap()).len();
        assert_eq!(email_len("a@b"), email_len("ann.lee@mail.example.org"));
        let ip_len = |text: &str| {
            seal_connecting_ip(&key, 1, &ConnectingIp::new(text.parse().unwrap())).len()
        };
        assert_eq!(ip_len("192.0.2.7"), ip_len("2001:db8::7"));
    }
}
