//! Assembles the classic BPF program that the kernel runs before each system call.
//!
//! The program is a binary search for the call's number, then for each demand that the call has one for the
//! argument's value. It is made here, rather than by a library, because a search costs a busy gateway less than a
//! list, because the kernel remembers which calls are always allowed and then runs nothing at all for them, and
//! because a library's way to install it would have every process slowed down that inherits it
//! ([`crate::filter::hold_to`]).

use std::{mem::offset_of, ops::RangeInclusive};

/// One instruction, as the kernel takes it.
pub type Instruction = libc::sock_filter;

/// A system call that is on a list, if its arguments are as demanded.
#[derive(Clone)]
pub struct Rule {
    /// The call's number.
    pub number: u32,
    /// What is demanded of its arguments.
    pub demands: Vec<Demand>,
}

/// What an argument must be.
#[derive(Clone)]
pub struct Demand {
    /// Which argument, from 0.
    pub argument: usize,
    /// Its values.
    pub values: Values,
}

/// Values of an argument.
#[derive(Clone)]
pub enum Values {
    /// Those in one of these ranges, which ascend and are apart from each other.
    Within(Vec<RangeInclusive<u32>>),
    /// Those with at least one of these bits.
    WithAnyBit(u32),
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: Instruction = plain(RETURN, libc::SECCOMP_RET_ALLOW);
const KILL: Instruction = plain(RETURN, libc::SECCOMP_RET_KILL_PROCESS);

/// The answer that the call fails with `errno`.
const fn refuse(errno: libc::c_int) -> Instruction {
    plain(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// Numbers from here on are other names for the calls below, where the kernel has them (x32).
const OTHER_NAMES: u32 = 0x4000_0000;

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn jump_if(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The program that allows what `rules` list and kills the process at anything else.
#[must_use]
pub fn allowing(rules: Vec<Rule>) -> Vec<Instruction> {
    let mut program = beginning();
    program.extend(List { listed: ALLOW, other: KILL }.of_calls(rules));
    program
}

/// The program that refuses what `rules` list, as if a right were lacking, and allows anything else.
#[must_use]
pub fn refusing(rules: Vec<Rule>) -> Vec<Instruction> {
    failing(rules, libc::EPERM)
}

/// The program that has what `rules` list fail with `errno`, and allows anything else.
#[must_use]
pub fn failing(rules: Vec<Rule>, errno: libc::c_int) -> Vec<Instruction> {
    let mut program = beginning();
    program.extend([jump_if(JUMP_IF_AT_LEAST, OTHER_NAMES, 0, 1), KILL]);
    program.extend(List { listed: refuse(errno), other: ALLOW }.of_calls(rules));
    program
}

/// Kills the process at a call of another architecture, and loads the number of any other.
fn beginning() -> Vec<Instruction> {
    vec![
        plain(LOAD, offset_of!(libc::seccomp_data, arch) as u32),
        jump_if(JUMP_IF_EQUAL, ARCHITECTURE, 1, 0),
        KILL,
        plain(LOAD, offset_of!(libc::seccomp_data, nr) as u32),
    ]
}

/// Values, and what follows when the value that was loaded is one of them; that ends with an answer.
struct Leaf {
    values: RangeInclusive<u32>,
    then: Vec<Instruction>,
}

/// The answers to what is on a list and to what is not.
#[derive(Clone, Copy)]
struct List {
    listed: Instruction,
    other: Instruction,
}

impl List {
    /// Searches `rules` for the loaded number.
    fn of_calls(self, mut rules: Vec<Rule>) -> Vec<Instruction> {
        rules.sort_by_key(|rule| rule.number);
        let leaf = |rule: &Rule| {
            let demands = rule.demands.iter().rev();
            let then = demands.fold(vec![self.listed], |then, demand| self.demand(demand, &then));
            Leaf { values: rule.number..=rule.number, then }
        };
        self.search(&rules.iter().map(leaf).collect::<Vec<_>>())
    }

    /// Demands an argument of 32 bits, of which the kernel looks at the lower half of the register only.
    fn demand(self, demand: &Demand, then: &[Instruction]) -> Vec<Instruction> {
        let low_half = if cfg!(target_endian = "little") { 0 } else { 4 };
        let offset = offset_of!(libc::seccomp_data, args) + 8 * demand.argument + low_half;
        let mut code = vec![plain(LOAD, offset as u32)];
        match &demand.values {
            Values::Within(ranges) => {
                let leaf =
                    |range: &RangeInclusive<u32>| Leaf { values: range.clone(), then: then.into() };
                code.extend(self.search(&ranges.iter().map(leaf).collect::<Vec<_>>()));
            }
            Values::WithAnyBit(bits) => {
                code.extend([jump_if(JUMP_IF_ANY_BIT, *bits, 1, 0), self.other]);
                code.extend(then);
            }
        }
        code
    }

    /// Searches ascending `leaves` for the loaded value.
    fn search(self, leaves: &[Leaf]) -> Vec<Instruction> {
        match leaves {
            [] => vec![self.other],
            [leaf] => {
                let (from, to) = (*leaf.values.start(), *leaf.values.end());
                let mut code = if from == to {
                    vec![jump_if(JUMP_IF_EQUAL, from, 1, 0), self.other]
                } else {
                    let at_least = jump_if(JUMP_IF_AT_LEAST, from, 0, 1);
                    vec![at_least, jump_if(JUMP_IF_ABOVE, to, 0, 1), self.other]
                };
                code.extend(&leaf.then);
                code
            }
            _ => {
                let (below, above) = leaves.split_at(leaves.len() / 2);
                let pivot = *above[0].values.start();
                let (below, above) = (self.search(below), self.search(above));
                let mut code = vec![jump_if(JUMP_IF_AT_LEAST, pivot, 0, 1)];
                code.push(plain(JUMP, below.len() as u32));
                code.extend(below);
                code.extend(above);
                code
            }
        }
    }
}

/// Gathers numbers into the fewest ranges.
#[must_use]
pub fn ranges(numbers: impl IntoIterator<Item = u32>) -> Vec<RangeInclusive<u32>> {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if number <= last.end().saturating_add(1) => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the program answers to a call.
    fn answer(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let argument = |at: usize| arguments[at] as u32;
        run(program, architecture, number, argument)
    }

    /// What the program answers to a call whose arguments are told when it looks at one.
    fn run(
        program: &[Instruction],
        architecture: u32,
        number: u32,
        argument: impl Fn(usize) -> u32,
    ) -> u32 {
        let load = |offset: u32| match offset {
            0 => number,
            4 => architecture,
            _ => argument((offset as usize - 16) / 8),
        };
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    loaded = load(k);
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                JUMP_IF_EQUAL => loaded == k,
                JUMP_IF_AT_LEAST => loaded >= k,
                JUMP_IF_ABOVE => loaded > k,
                JUMP_IF_ANY_BIT => loaded & k != 0,
                other => panic!("instruction {other}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    fn allowed(program: &[Instruction], number: u32, arguments: [u64; 6]) -> bool {
        answer(program, ARCHITECTURE, number, arguments) == libc::SECCOMP_RET_ALLOW
    }

    #[test]
    fn another_architecture_is_killed() {
        let program = allowing(vec![Rule { number: 7, demands: vec![] }]);
        assert!(allowed(&program, 7, [0; 6]));
        assert_eq!(answer(&program, 0x4000_0003, 7, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert!(!allowed(&program, 7 | 0x4000_0000, [0; 6]));
    }

    #[test]
    fn every_demand_must_hold() {
        let demand = |argument, numbers: &[u32]| Demand {
            argument,
            values: Values::Within(ranges(numbers.iter().copied())),
        };
        let demands = vec![demand(0, &[3, 4, 5, 9]), demand(2, &[1])];
        let program = allowing(vec![Rule { number: 1, demands }]);
        assert!(allowed(&program, 1, [5, 0, 1, 0, 0, 0]));
        assert!(allowed(&program, 1, [9, 7, 1, 7, 7, 7]));
        assert!(!allowed(&program, 1, [6, 0, 1, 0, 0, 0]));
        assert!(!allowed(&program, 1, [3, 0, 2, 0, 0, 0]));
    }

    #[test]
    fn refusal_is_for_what_is_listed_and_for_calls_by_another_name() {
        let raw = Demand { argument: 1, values: Values::Within(ranges([3])) };
        let listed = Rule { number: 5, demands: vec![] };
        let program = refusing(vec![Rule { number: 1, demands: vec![raw] }, listed]);
        let refused = |number, argument| {
            answer(&program, ARCHITECTURE, number, [0, argument, 0, 0, 0, 0])
                == refuse(libc::EPERM).k
        };
        assert!(refused(5, 9) && refused(1, 3));
        assert!(allowed(&program, 1, [3, 2, 3, 3, 3, 3]));
        assert!(allowed(&program, 4, [0; 6]) && allowed(&program, 500, [0; 6]));
        for (architecture, number) in [(ARCHITECTURE, OTHER_NAMES | 4), (0x4000_0003, 4)] {
            let answer = answer(&program, architecture, number, [0; 6]);
            assert_eq!(answer, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn one_of_several_bits_is_enough() {
        let demands = vec![Demand { argument: 0, values: Values::WithAnyBit(0b0110) }];
        let program = failing(vec![Rule { number: 1, demands }], libc::ENOSYS);
        let answer = |flags| answer(&program, ARCHITECTURE, 1, [flags, 6, 6, 6, 6, 6]);
        for flags in [0b0010, 0b0100, 0b1111] {
            assert_eq!(answer(flags), refuse(libc::ENOSYS).k, "{flags}");
        }
        for flags in [0, 0b1001, 0b0110 << 32] {
            assert_eq!(answer(flags), libc::SECCOMP_RET_ALLOW, "{flags}");
        }
    }

    #[test]
    fn arguments_are_looked_at_only_if_something_is_demanded_of_them() {
        let demands = vec![Demand { argument: 0, values: Values::WithAnyBit(1) }];
        let listed = [(1, vec![]), (4, demands.clone()), (9, vec![]), (10, demands)];
        let rules = listed.map(|(number, demands)| Rule { number, demands }).to_vec();
        for program in [allowing(rules.clone()), refusing(rules)] {
            // The kernel finds out by the same means which calls it need not run a program for.
            let looked = |number| {
                let has_looked = std::cell::Cell::new(false);
                run(&program, ARCHITECTURE, number, |_| u32::from(has_looked.replace(true)));
                has_looked.get()
            };
            let looked_at: Vec<u32> = (0..500).filter(|number| looked(*number)).collect();
            assert_eq!(looked_at, [4, 10]);
        }
    }

    #[test]
    fn numbers_gather_into_ranges() {
        assert_eq!(ranges([9, 4, 6, 5, 1]), [1..=1, 4..=6, 9..=9]);
    }

    proptest! {
        #[test]
        fn programs_answer_as_the_rules_say(
            rules in proptest::collection::btree_map(
                0u32..64, proptest::option::of(proptest::collection::vec(0u32..16, 0..8)), 0..40,
            ),
            calls in proptest::collection::vec((0u32..64, 0u32..16), 64),
        ) {
            let rule = |(number, values): (&u32, &Option<Vec<u32>>)| Rule {
                number: *number,
                demands: values
                    .iter()
                    .map(|values| Values::Within(ranges(values.iter().copied())))
                    .map(|values| Demand { argument: 3, values })
                    .collect(),
            };
            let list: Vec<Rule> = rules.iter().map(rule).collect();
            let (allowing, refusing) = (allowing(list.clone()), refusing(list));
            for (number, value) in calls {
                let is_listed = rules.get(&number).is_some_and(|values| {
                    values.as_ref().is_none_or(|values| values.contains(&value))
                });
                let arguments = [9, 9, 9, value.into(), 9, 9];
                prop_assert_eq!(allowed(&allowing, number, arguments), is_listed);
                prop_assert_eq!(allowed(&refusing, number, arguments), !is_listed);
            }
        }
    }
}
