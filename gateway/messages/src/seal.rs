//! The parts of the seal around the forwarder, so that it can say which of them could not be applied.

/// Declares [`SealPart`] with its names, so that the list stands once.
macro_rules! seal_parts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A part of the seal that the forwarder puts around itself before it reads the first packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum SealPart { $($(#[$doc])* $variant,)* }

        impl SealPart {
            /// Every part, in the order in which they are applied first.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the part does, in a few words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

seal_parts! {
    /// No core file, no dump, no look by a process of the same user.
    Dumps = "keeping memory out of dumps",
    /// No page of memory ever gets to a disk.
    Memory = "locking memory",
    /// Namespaces of its own, with an empty root directory and no network.
    Namespaces = "entering empty namespaces",
    /// No capability, none to be had.
    Capabilities = "dropping capabilities",
    /// A user and a group that own nothing.
    User = "becoming an unprivileged user",
    /// Landlock without a single right.
    Landlock = "denying files and networks with Landlock",
    /// No further process, file or descriptor.
    Limits = "setting resource limits",
    /// No descriptor but those it was given.
    Descriptors = "closing other descriptors",
    /// No system call but those that packets need.
    SystemCalls = "filtering system calls",
}

impl SealPart {
    /// The part of a number as it travels.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
