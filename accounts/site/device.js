// Makes a device's keys in the browser. The private key is put into the config here, and is sent nowhere.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const form = byId("add-device");
  const PLACE = /^# PrivateKey = .*$/m;

  const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
  const ofBase64Url = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

  async function makeKeys() {
    const pair = await crypto.subtle.generateKey({ name: "X25519" }, true, ["deriveBits"]);
    const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    const jwk = await crypto.subtle.exportKey("jwk", pair.privateKey);
    return { publicKey: base64(raw), privateKey: base64(ofBase64Url(jwk.d)) };
  }

  function complain(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = false;
  }

  function show(config, name) {
    byId("config").textContent = config;
    const save = byId("save");
    save.href = URL.createObjectURL(new Blob([config], { type: "application/octet-stream" }));
    // What the apps take as the name of a tunnel.
    save.download = (name.replace(/[^a-zA-Z0-9_=+.-]+/g, "-").slice(0, 15) || "tacit") + ".conf";
    byId("copy").onclick = () => copy(config);
    byId("qr").replaceChildren(tacitQr.svg(config));
    byId("made").hidden = false;
    for (const part of [byId("none"), byId("add"), form]) if (part) part.hidden = true;
    byId("made-title").focus();
  }

  async function copy(config) {
    const copied = byId("copied");
    // Said anew each time, also to those who hear it.
    copied.textContent = "";
    try {
      await navigator.clipboard.writeText(config);
      copied.textContent = copied.dataset.done;
    } catch {
      copied.textContent = copied.dataset.failed;
    }
  }

  async function add() {
    const name = byId("name");
    const button = byId("make-keys");
    // One at a time, whether by the button or by Enter.
    if (button.disabled) return;
    byId("trouble").hidden = true;
    if (!name.reportValidity()) return;
    button.disabled = true;
    try {
      const keys = await makeKeys();
      const fields = new URLSearchParams({ token: form.elements.token.value, name: name.value, public_key: keys.publicKey });
      if (byId("gateway")) fields.set("gateway", byId("gateway").value);
      const answer = await fetch("/devices", { method: "POST", body: fields, headers: { accept: "text/plain" }, redirect: "error" });
      const text = await answer.text();
      if (answer.ok) show(text.replace(PLACE, () => "PrivateKey = " + keys.privateKey), name.value.trim());
      else complain(answer.status === 422 ? text : byId("trouble").dataset.failed);
    } catch {
      complain(byId("trouble").dataset.failed);
    } finally {
      button.disabled = false;
    }
  }

  async function canMakeKeys() {
    try {
      await makeKeys();
      return true;
    } catch {
      return false;
    }
  }

  canMakeKeys().then((can) => {
    if (!can) return;
    byId("make").hidden = false;
    // A key that was refused stays in sight.
    byId("paste").open = byId("public-key").value !== "";
    byId("make-keys").addEventListener("click", add);
    // Enter in the field with the name does what the button beside it does.
    byId("name").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || byId("paste").open) return;
      event.preventDefault();
      if (!event.repeat) add();
    });
  });
})();
