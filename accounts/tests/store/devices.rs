use std::{net::Ipv4Addr, time::Duration};

use tacit_accounts::{AccountId, Confirmation, DeviceName, NameError, StoreError};
use tacit_keys::PresharedKey;
use tacit_messages::DeviceId;

use crate::{Fixture, NOW, add_account, add_device, add_device_at, email, later, name, new_key};

#[tokio::test]
async fn first_device_gets_the_addresses_after_the_gateway() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    assert_eq!(device.tunnel_v4, Ipv4Addr::new(10, 66, 0, 2));
    assert_eq!(device.tunnel_v6.to_string(), "fd66:7ac1:7::2");
    assert_eq!(fixture.store.devices(account).await.unwrap(), [device]);
}

#[tokio::test]
async fn credentials_are_found_by_public_key() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let (key, preshared_key) = (new_key(), PresharedKey::generate());
    let added = fixture.store.add_device(account, &name("phone"), key, &preshared_key, NOW).await;
    let device = added.unwrap();
    let found = fixture.store.device_by_public_key(key.as_bytes(), NOW).await.unwrap().unwrap();
    assert_eq!(found.device, device.id);
    assert!(found.preshared_key == preshared_key);
    assert_eq!((found.tunnel_v4, found.tunnel_v6), (device.tunnel_v4, device.tunnel_v6));
    assert_eq!(fixture.store.device_by_public_key(&[7; 32], NOW).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_connects_once_the_service_has_ended() {
    let fixture = Fixture::new().await;
    let until = later(60);
    let account = fixture
        .store
        .add_account(&email("ann@example.org"), Confirmation::OfAge, Some(until), NOW)
        .await
        .unwrap();
    let device = add_device(&fixture.store, account.id, "phone").await.unwrap();
    let key = device.public_key.as_bytes();
    assert!(fixture.store.device_by_public_key(key, later(59)).await.unwrap().is_some());
    assert!(fixture.store.device_by_public_key(key, until).await.unwrap().is_none());
}

#[tokio::test]
async fn sixth_device_is_refused() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    for number in 1..=5 {
        add_device(&fixture.store, account, &format!("device {number}")).await.unwrap();
    }
    let error = add_device(&fixture.store, account, "device 6").await.unwrap_err();
    assert!(matches!(error, StoreError::DeviceLimit { limit: 5 }));
    assert!(error.to_string().contains("`device-limit`"), "{error}");
    let other = add_account(&fixture.store, "bob@example.org").await;
    add_device(&fixture.store, other, "device 1").await.unwrap();
}

#[tokio::test]
async fn limit_can_be_set_and_a_removal_makes_room() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let store = fixture.store.clone().with_device_limit(1);
    add_device(&store, account, "phone").await.unwrap();
    let error = add_device(&store, account, "laptop").await.unwrap_err();
    assert!(matches!(error, StoreError::DeviceLimit { limit: 1 }));
    store.remove_device(account, &name("phone"), NOW).await.unwrap();
    add_device(&store, account, "laptop").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_adds_do_not_pass_the_limit() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let adds: Vec<_> = (0..20)
        .map(|number| {
            let store = fixture.store.clone();
            tokio::spawn(async move { add_device(&store, account, &number.to_string()).await })
        })
        .collect();
    let mut added = 0;
    for add in adds {
        added += usize::from(add.await.unwrap().is_ok());
    }
    assert_eq!(added, 5);
}

#[tokio::test]
async fn name_is_unique_in_an_account_and_free_in_another() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let other = add_account(&fixture.store, "bob@example.org").await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    let error = add_device(&fixture.store, account, "phone").await.unwrap_err();
    assert!(matches!(error, StoreError::NameTaken));
    add_device(&fixture.store, other, "phone").await.unwrap();
}

#[tokio::test]
async fn public_key_is_unique_among_all_devices() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let other = add_account(&fixture.store, "bob@example.org").await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    let preshared_key = PresharedKey::generate();
    let again =
        fixture.store.add_device(other, &name("tv"), device.public_key, &preshared_key, NOW).await;
    assert!(matches!(again, Err(StoreError::KeyTaken)));
    add_device(&fixture.store, other, "laptop").await.unwrap();
    let rotated = fixture
        .store
        .rotate_device(other, &name("laptop"), device.public_key, &preshared_key, NOW)
        .await;
    assert!(matches!(rotated, Err(StoreError::KeyTaken)));
}

#[tokio::test]
async fn refused_add_takes_no_address() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    add_device(&fixture.store, account, "phone").await.unwrap_err();
    let next = add_device(&fixture.store, account, "laptop").await.unwrap();
    assert_eq!(next.tunnel_v4, Ipv4Addr::new(10, 66, 0, 3));
}

#[tokio::test]
async fn rotation_changes_key_and_number_and_keeps_addresses() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let before = add_device(&fixture.store, account, "phone").await.unwrap();
    let (key, preshared_key) = (new_key(), PresharedKey::generate());
    let rotated =
        fixture.store.rotate_device(account, &name("phone"), key, &preshared_key, later(9)).await;
    let (former, after) = rotated.unwrap();
    assert_eq!(former, before.id);
    assert_ne!(after.id, before.id);
    assert_eq!((after.tunnel_v4, after.tunnel_v6), (before.tunnel_v4, before.tunnel_v6));
    assert_eq!((after.public_key, after.created_at), (key, later(9)));
    assert_eq!(fixture.store.devices(account).await.unwrap(), std::slice::from_ref(&after));
    let dead = fixture.store.device_by_public_key(before.public_key.as_bytes(), NOW).await.unwrap();
    assert_eq!(dead, None);
    let live = fixture.store.device_by_public_key(key.as_bytes(), NOW).await.unwrap().unwrap();
    assert_eq!(live.device, after.id);
    assert!(live.preshared_key == preshared_key);
}

#[tokio::test]
async fn device_can_be_rotated_again_and_removed() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let mut device = add_device(&fixture.store, account, "phone").await.unwrap();
    for _ in 0..3 {
        let preshared_key = PresharedKey::generate();
        let rotated = fixture
            .store
            .rotate_device(account, &name("phone"), new_key(), &preshared_key, NOW)
            .await
            .unwrap();
        assert_eq!(rotated.0, device.id);
        device = rotated.1;
    }
    let removed = fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    assert_eq!(removed, device.id);
    assert!(fixture.store.devices(account).await.unwrap().is_empty());
}

#[tokio::test]
async fn number_of_a_removed_device_is_never_given_again() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let mut numbers = Vec::<DeviceId>::new();
    for _ in 0..3 {
        numbers.push(add_device(&fixture.store, account, "phone").await.unwrap().id);
        fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
}

#[tokio::test]
async fn unknown_account_and_device_are_told() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let nobody = add_device(&fixture.store, AccountId(77), "phone").await;
    assert!(matches!(nobody, Err(StoreError::NoSuchAccount)));
    let removed = fixture.store.remove_device(account, &name("phone"), NOW).await;
    assert!(matches!(removed, Err(StoreError::NoSuchDevice)));
    let preshared_key = PresharedKey::generate();
    let rotated =
        fixture.store.rotate_device(account, &name("phone"), new_key(), &preshared_key, NOW).await;
    assert!(matches!(rotated, Err(StoreError::NoSuchDevice)));
}

#[tokio::test]
async fn nobody_touches_anothers_device() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let other = add_account(&fixture.store, "bob@example.org").await;
    add_device_at(&fixture.store, account, "phone", NOW).await.unwrap();
    let removed = fixture.store.remove_device(other, &name("phone"), NOW).await;
    assert!(matches!(removed, Err(StoreError::NoSuchDevice)));
    assert_eq!(fixture.store.devices(account).await.unwrap().len(), 1);
}

#[test]
fn name_must_show_as_it_is() {
    assert_eq!(name("Zoë's laptop 2").as_str(), "Zoë's laptop 2");
    assert_eq!(name(&"ü".repeat(63)).as_str().chars().count(), 63);
    for (text, fault) in [
        (String::new(), NameError::Length),
        ("x".repeat(64), NameError::Length),
        ("a\nb".into(), NameError::Character),
        ("a\u{1b}[2J".into(), NameError::Character),
        ("a\u{202e}b".into(), NameError::Character),
        (" phone".into(), NameError::Character),
        ("phone\t".into(), NameError::Character),
    ] {
        assert_eq!(DeviceName::parse(&text), Err(fault), "{text:?}");
    }
}

#[tokio::test]
async fn device_gets_another_name_and_keeps_all_else() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    add_device(&fixture.store, account, "laptop").await.unwrap();
    let other = add_account(&fixture.store, "bob@example.org").await;
    let rename = |account, to: &'static str| {
        let store = fixture.store.clone();
        async move { store.rename_device(account, device.id, &name(to)).await }
    };
    assert!(matches!(rename(account, "laptop").await, Err(StoreError::NameTaken)));
    assert!(matches!(rename(other, "tablet").await, Err(StoreError::NoSuchDevice)));
    rename(account, "phone").await.unwrap();
    rename(account, "tablet").await.unwrap();
    let devices = fixture.store.devices(account).await.unwrap();
    let renamed = devices.into_iter().find(|known| known.id == device.id).unwrap();
    assert_eq!(renamed, tacit_accounts::Device { name: name("tablet"), ..device });
}

#[tokio::test]
async fn device_is_removed_by_its_number_whatever_it_is_called_by_then() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let phone = add_device(store, account, "phone").await.unwrap();
    let laptop = add_device(store, account, "laptop").await.unwrap();
    // Each gets the other's name while a form to remove the phone is on its way.
    for (device, called) in [(phone.id, "x"), (laptop.id, "phone"), (phone.id, "laptop")] {
        store.rename_device(account, device, &name(called)).await.unwrap();
    }
    let removed = store.remove_device_numbered(account, phone.id, NOW).await.unwrap();
    assert_eq!(
        (removed.id, removed.tunnel_v4, removed.tunnel_v6),
        (phone.id, phone.tunnel_v4, phone.tunnel_v6)
    );
    let left: Vec<_> = store.devices(account).await.unwrap().iter().map(|left| left.id).collect();
    assert_eq!(left, [laptop.id]);
    let other = add_account(store, "ben@example.org").await;
    let foreign = store.remove_device_numbered(other, laptop.id, NOW).await;
    assert!(matches!(foreign, Err(StoreError::NoSuchDevice)), "somebody else's was removed");
    assert_eq!(store.devices(account).await.unwrap().len(), 1);
}

#[tokio::test]
async fn device_just_added_is_found_for_a_minute_by_its_account_name_and_key() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let (key, preshared_key) = (new_key(), PresharedKey::generate());
    let added = store.add_device(account, &name("phone"), key, &preshared_key, NOW).await.unwrap();
    let other = add_account(store, "ben@example.org").await;
    let minute = Duration::from_secs(60);
    let find = async |account, called: &str, key, now| {
        store.device_just_added(account, &name(called), key, minute, now).await.unwrap()
    };
    let (device, shared) = find(account, "phone", key, later(60)).await.unwrap();
    assert_eq!((device, shared.expose()), (added, preshared_key.expose()));
    assert!(find(account, "phone", key, later(61)).await.is_none());
    assert!(find(account, "tablet", key, NOW).await.is_none());
    assert!(find(account, "phone", new_key(), NOW).await.is_none());
    assert!(find(other, "phone", key, NOW).await.is_none());
}
