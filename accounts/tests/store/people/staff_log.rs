use tacit_accounts::{Confirmation, DataKind, Deed, ServiceName, StoreError, Term};

use super::STAFF;
use crate::{Fixture, NOW, add_account, add_device, email, later};

#[tokio::test]
async fn clause_1_every_change_by_the_staff_is_in_the_log_and_the_customers_own_are_not() {
    let fixture = Fixture::new().await;
    let staff = fixture.store.for_staff(STAFF);
    let account = add_account(&staff, "ann@example.org").await;
    add_device(&staff, account, "phone").await.unwrap();
    staff.grant(account, &ServiceName::default(), Term::DaysFromNow(3), NOW).await.unwrap();
    staff.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    let look = Deed::on(account, "session list", &[DataKind::Sessions]);
    staff.note_look(look, later(9)).await.unwrap();
    staff.cancel_account(account, later(10)).await.unwrap();
    fixture.account().await;

    let log = fixture.store.staff_log(None, 0, 100).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| entry.verb.as_str()).collect();
    let expected = [
        "account add",
        "device add",
        "account grant",
        "account email",
        "session list",
        "account cancel",
    ];
    assert_eq!(told, expected);
    assert!(log.iter().all(|entry| entry.uid == STAFF && entry.account == Some(account)));
    assert_eq!((log[4].at, log[4].data.as_str()), (later(9), "sessions"));
    assert_eq!(log[0].data, "e-mail, confirmation, services");
    let text = format!("{log:?}");
    assert!(!text.contains("example"), "the log has the data: {text}");
    let verified = fixture.store.verify_staff_log(None).await.unwrap().unwrap();
    assert_eq!((verified.end.entries, verified.removed), (6, 0));
}

#[tokio::test]
async fn clause_1_change_that_fails_leaves_no_entry() {
    let fixture = Fixture::new().await;
    let staff = fixture.store.for_staff(STAFF);
    add_account(&staff, "ann@example.org").await;
    let again = staff.add_account(&email("ann@example.org"), Confirmation::OfAge, None, NOW).await;
    assert!(matches!(again, Err(StoreError::EmailTaken)));
    assert_eq!(fixture.store.staff_log(None, 0, 100).await.unwrap().len(), 1);
    fixture.store.verify_staff_log(None).await.unwrap().unwrap();
}
