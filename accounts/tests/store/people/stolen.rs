use tacit_accounts::{Basis, DisclosureRequest, Door, ServiceName};

use super::{PASSWORD, STAFF, line, registered, token};
use crate::{Fixture, NOW, email};

#[tokio::test]
async fn clause_7_stolen_database_yields_no_code_no_token_no_password_and_no_archived_value() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    store.change_email(account, &email("ann.searchable@example.net"), NOW).await.unwrap();
    let code = store.make_codes(1, &ServiceName::default(), 3, NOW).await.unwrap().remove(0);
    let letter = store
        .begin_email_change(account, &email("later.searchable@example.com"), NOW)
        .await
        .unwrap();
    store.give_consent(account, &line("notary to search for"), NOW).await.unwrap();
    let request = DisclosureRequest {
        account,
        basis: Basis::TermsBreach,
        reference: line("reference to search for"),
        recipient: line("recipient to search for"),
        secret_until: None,
    };
    store.for_staff(STAFF).disclose(&request, NOW).await.unwrap();
    let secrets = [
        PASSWORD,
        "argon2id",
        "ann@example",
        "searchable",
        "search for",
        token(&letter).expose(),
        &code.expose(),
        &code.expose().replace('-', ""),
    ]
    .map(str::to_owned);
    let files: Vec<Vec<u8>> = std::fs::read_dir(fixture._dir.path())
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    let found = |needle: &[u8]| {
        files.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(found(b"disclosure make"), "the search finds nothing at all");
    for secret in &secrets {
        assert!(!found(secret.as_bytes()), "{secret} is in the files");
        assert!(!found(secret.to_lowercase().as_bytes()), "{secret} is in the files");
    }
}
