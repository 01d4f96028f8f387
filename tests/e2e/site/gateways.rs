//! Several gateways: the site of each offers all of them.

use std::{fs, time::Duration};

use tacit_tests::{
    Client, Implementation, Lab, Visitor,
    clock::wait_until,
    lab::TARGET_V4,
    transfer::{Direction, transfer},
};

use super::{EMAIL, NOBODYS_KEY, customer, journey::add_device_with, logged_in, start};
use crate::several_gateways::Scene;

/// What a page offers: value and label of each choice.
fn offered(visitor: &mut Visitor<'_>) -> Vec<(String, String)> {
    let page = visitor.get("/devices").body;
    let options = page.split("<option value=\"").skip(1).map(|option| {
        let (value, rest) = option.split_once('"').unwrap();
        let label = rest.split_once('>').unwrap().1.split_once("</option>").unwrap().0;
        (value.to_owned(), label.to_owned())
    });
    options.collect()
}

fn labels(visitor: &mut Visitor<'_>) -> Vec<String> {
    offered(visitor).into_iter().map(|(_, label)| label).collect()
}

#[test]
fn device_made_at_one_gateway_connects_to_the_one_that_was_chosen() {
    let scene = Scene::new();
    let settings = scene.far.dir().join("tacit.toml");
    fs::write(&settings, "region = \"Rome\"\n").unwrap();
    let config = settings.to_str().unwrap();
    let listen = ["--config", config, "--listen", "0.0.0.0:51821,[::]:51821"];
    let (near, mut far) = scene.gateways_with(&["--region", "Oslo"], &listen);
    customer(&scene.near, &near, EMAIL);
    let mut ann = logged_in(&scene.near, &near, EMAIL);
    wait_until("the other gateway", Duration::from_secs(10), || offered(&mut ann).len() == 2);
    assert_eq!(labels(&mut ann), ["Oslo (198.51.100.1)", "Rome (198.51.100.1)"]);

    let key = |gateway: &tacit_tests::Gateway<'_>| gateway.json(&["status"])["public_key"].clone();
    let (here, there) = (key(&near), key(&far));
    let rome = offered(&mut ann)[1].0.clone();
    let config = add_device_with(&mut ann, &[("name", "phone"), ("gateway", rome.as_str())]);
    assert!(config.text.contains(there.as_str().unwrap()), "{}", config.text);
    assert_eq!(config.endpoint.port(), 51821);
    let client = Client::up(&scene.far.clients[0], Implementation::WireguardGo, &config);
    transfer(client.namespace, Direction::Up, TARGET_V4.into(), 1, 1_000_000).unwrap();
    far.wait_for_live(1);
    near.wait_for_sessions(EMAIL, 1);
    assert_eq!(near.json(&["status"])["sessions"], 0);
    assert!(ann.get("/devices").body.contains("Connected now"));

    // Another region is in force at once where settings are read again.
    let mut at_far = logged_in(&scene.far, &far, EMAIL);
    assert!(labels(&mut at_far)[0].starts_with("Rome ("), "{:?}", labels(&mut at_far));
    fs::write(&settings, "region = \"Pisa\"\n").unwrap();
    far.reload();
    wait_until("the other region", Duration::from_secs(5), || {
        labels(&mut at_far)[0].starts_with("Pisa (")
    });

    // Who does not choose stays here; who names one that is not there is told so.
    let config = add_device_with(&mut ann, &[("name", "laptop")]);
    assert!(config.text.contains(here.as_str().unwrap()), "{}", config.text);
    let fields = [("name", "tablet"), ("public_key", NOBODYS_KEY), ("gateway", "77")];
    let answer = ann.submit("/devices", "/devices", &fields);
    assert!(answer.status == 422 && answer.body.contains("not there at present"), "{answer:?}");

    // What stands in the database is shown as text, or not at all.
    let script = "UPDATE gateways SET region = '<script>alert(1)</script>' WHERE name = 'far'";
    let _ = scene.server.sql("tacit", script);
    assert!(labels(&mut ann)[1].starts_with("&#60;script&#62;"), "{:?}", labels(&mut ann));
    let obeyed = "UPDATE gateways SET endpoint = E'a:1\\nPostUp = reboot' WHERE name = 'far'";
    let _ = scene.server.sql("tacit", obeyed);
    assert_eq!(offered(&mut ann).len(), 0, "there is no choice among one");
    far.stop();
    far.run();
    wait_until("the other gateway", Duration::from_secs(10), || offered(&mut ann).len() == 2);

    // One that is drained is not offered, at its own site neither, unless it is the only one.
    let own = offered(&mut ann)[0].0.clone();
    near.text(&["gateway", "drain", "near"]);
    assert_eq!(offered(&mut ann).len(), 0, "a gateway that is drained is offered at its own site");
    let config = add_device_with(&mut ann, &[("name", "watch")]);
    assert!(config.text.contains(there.as_str().unwrap()), "{}", config.text);
    let fields = [("name", "tablet"), ("public_key", NOBODYS_KEY), ("gateway", own.as_str())];
    let answer = ann.submit("/devices", "/devices", &fields);
    assert!(answer.status == 422 && answer.body.contains("not there at present"), "{answer:?}");
    far.stop();
    assert_eq!(offered(&mut ann).len(), 0, "a gateway that was stopped is offered");
    let config = add_device_with(&mut ann, &[("name", "desk")]);
    assert!(config.text.contains(here.as_str().unwrap()), "{}", config.text);
}

#[test]
fn site_shows_the_gateways_key_of_now_and_new_configs_have_it() {
    let lab = Lab::new(1);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let key = || gateway.json(&["key", "show"])["gateway_key"].as_str().unwrap().to_owned();
    let shown = |page: &str| page.replace("&#61;", "=").replace("&#43;", "+").replace("&#47;", "/");
    let former = key();
    assert!(!shown(&ann.get("/devices").body).contains(&former), "there is no device yet");
    let old = add_device_with(&mut ann, &[("name", "phone")]);
    assert!(shown(&ann.get("/devices").body).contains(&former));

    gateway.text(&["key", "rotate", "--gateway"]);
    let page = shown(&ann.get("/devices").body);
    assert!(page.contains(&key()) && !page.contains(&former), "{page}");
    let new = add_device_with(&mut ann, &[("name", "tablet")]);
    assert_ne!(new.gateway_key, old.gateway_key);
}
