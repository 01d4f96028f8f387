use tacit_accounts::{Code, Door, ServiceName, StoreError, Term};

use super::{DAY, registered};
use crate::{Fixture, NOW, add_account, add_device, ip, later};

#[tokio::test]
async fn clause_5_code_gives_service_once_and_its_row_goes() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let device = add_device(store, account, "phone").await.unwrap();
    let key = device.public_key;
    let connects = |at| {
        let store = store.clone();
        async move { store.device_by_public_key(key.as_bytes(), at).await.unwrap().is_some() }
    };
    assert!(!connects(NOW).await, "an account of the site has service from the start");
    let service: ServiceName = "vpn".parse().unwrap();
    let codes = store.make_codes(2, &service, 30, NOW).await.unwrap();
    let typed: Code = codes[0].expose().to_lowercase().replace('-', " ").parse().unwrap();
    let given = store.redeem_code(account, &typed, NOW).await.unwrap();
    assert_eq!(given.ends_at, Some(later(30 * DAY)));
    assert!(connects(later(30 * DAY - 1)).await && !connects(later(30 * DAY)).await);
    let again = store.redeem_code(account, &codes[0], NOW).await;
    assert!(matches!(again, Err(StoreError::NoSuchCode)));
    let left = store.unused_codes().await.unwrap();
    assert_eq!((left.len(), left[0].id, left[0].days), (1, 2, 30));
    let given = store.redeem_code(account, &codes[1], later(DAY)).await.unwrap();
    assert_eq!(given.ends_at, Some(later(60 * DAY)), "days are added to the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clause_5_code_is_redeemed_once_however_many_try() {
    let fixture = Fixture::new().await;
    let (store, service) = (&fixture.store, ServiceName::default());
    let mut accounts = Vec::new();
    for number in 0..8 {
        let account = add_account(store, &format!("customer{number}@example.org")).await;
        store.grant(account, &service, Term::DaysFromNow(1), NOW).await.unwrap();
        accounts.push(account);
    }
    let code = store.make_codes(1, &service, 30, NOW).await.unwrap().remove(0);
    let trying: Vec<_> = accounts
        .iter()
        .map(|account| {
            let (store, account, code) = (store.clone(), *account, code.clone());
            tokio::spawn(async move { store.redeem_code(account, &code, NOW).await.is_ok() })
        })
        .collect();
    let mut redeemed = 0;
    for one in trying {
        redeemed += u32::from(one.await.unwrap());
    }
    assert_eq!(redeemed, 1);
    let mut longer = 0;
    for account in accounts {
        let services = store.services(account).await.unwrap();
        longer += u32::from(services[0].ends_at == Some(later(31 * DAY)));
    }
    assert_eq!(longer, 1);
}

#[tokio::test]
async fn clause_5_code_is_still_good_if_it_could_add_nothing() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let code = store.make_codes(1, &ServiceName::default(), 30, NOW).await.unwrap().remove(0);
    let refused = store.redeem_code(account, &code, NOW).await;
    assert!(matches!(refused, Err(StoreError::WithoutEnd)));
    assert_eq!(store.unused_codes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn device_of_an_account_whose_service_ended_is_to_be_revoked() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    assert!(store.devices_without_service(later(1000 * DAY)).await.unwrap().is_empty());
    let term = Term::DaysFromNow(1);
    store.grant(account, &ServiceName::default(), term, NOW).await.unwrap();
    assert!(store.devices_without_service(later(DAY - 1)).await.unwrap().is_empty());
    assert_eq!(store.devices_without_service(later(DAY)).await.unwrap(), [device.id]);
    store.session_ended(device.id, later(DAY)).await.unwrap();
    assert!(store.devices_without_service(later(DAY)).await.unwrap().is_empty());
}
