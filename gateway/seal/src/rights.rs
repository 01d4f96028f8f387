//! The rights of the calling thread: capabilities, user and groups.

use rustix::{
    io::{Errno, Result},
    process::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// Takes all but `kept` from the set of capabilities that a program which is started could have.
///
/// # Errors
/// Without CAP_SETPCAP.
pub fn bound(kept: CapabilitySet) -> Result<()> {
    for capability in each() {
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => {
                remove_capability_from_bounding_set(capability)?;
            }
            Ok(_) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Every capability that there could be.
fn each() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}

/// Becomes `user` with `group` and no other groups; capabilities that are permitted stay so.
///
/// # Errors
/// Without CAP_SETUID and CAP_SETGID, or if there are no such numbers in this user namespace.
pub fn become_user(user: u32, group: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_keep_capabilities(true)?;
    set_thread_res_uid(user, user, user)?;
    set_keep_capabilities(false)
}

/// Drops all capabilities but `kept`, which programs that are started do not inherit.
///
/// # Errors
/// If one of `kept` is not permitted.
pub fn keep_only(kept: CapabilitySet) -> Result<()> {
    clear_ambient_capability_set()?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}

/// Drops all capabilities but `kept`, which programs that are started have too, although this process is not root.
///
/// # Errors
/// If one of `kept` is not permitted.
pub fn keep_and_pass_on(kept: CapabilitySet) -> Result<()> {
    clear_ambient_capability_set()?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    each()
        .filter(|capability| kept.contains(*capability))
        .try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}
