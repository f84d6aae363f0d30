//! Who a cluster is made of: node ids, addresses, voters and learners, and their bytes. Owns what may be a member at all; who becomes
//! one is for [`super::node`] and its users.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use noraft::{ClusterConfig, NodeId};

use crate::planted::{self, Bug};
use crate::wire::{Malformed, Reader, Write as _};

/// Members of a cluster at most, learners included.
pub const MEMBERS_MAX: usize = 64;
/// Bytes of an address at most: a host name and a port.
pub const ADDRESS_MAX_BYTES: usize = 262;

/// The id of a node, or of a cluster: 128 random bits, written as a UUID of version 4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// One of these random bytes, of which six bits say the version.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// One of bytes that were stored or sent.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        if text.len() != 36 || text.bytes().enumerate().any(|(at, byte)| is_hyphen(at) != (byte == b'-')) {
            return None;
        }
        let mut digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            *byte = u8::try_from(digits.next()?? << 4 | digits.next()??).ok()?;
        }
        Some(Self(bytes))
    }

    /// The number that stands for it in the log and in messages: its first eight bytes, which are random but for four bits.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        NodeId::new(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub uuid: Uuid,
    /// `host:port`, where the others reach it.
    pub address: String,
}

/// Everybody in a cluster, as one entry of the log says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes, who will, and who only learns.
    pub config: ClusterConfig,
    /// Everybody of `config`.
    pub members: BTreeMap<NodeId, Member>,
}

impl Membership {
    /// Whether those for whom `holds` is true are a majority: of the voters, and in a joint configuration of the new ones too.
    pub fn is_majority(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        let learners =
            self.config.non_voters.iter().filter(|id| planted::is(Bug::LearnerCounted) && holds(**id)).count();
        let is_majority =
            |ids: &BTreeSet<NodeId>| learners + ids.iter().filter(|id| holds(**id)).count() > ids.len() / 2;
        let is_old_left_out = self.config.is_joint_consensus() && planted::is(Bug::NewConfigAlone);
        (is_majority(&self.config.voters) || is_old_left_out)
            && (self.config.new_voters.is_empty() || is_majority(&self.config.new_voters))
    }

    /// Whether a node votes, in the old or the new set.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.config.voters.contains(&id) || self.config.new_voters.contains(&id)
    }

    /// The member of an id that users write.
    #[must_use]
    pub fn find(&self, uuid: Uuid) -> Option<&Member> {
        self.members.get(&uuid.node_id()).filter(|member| member.uuid == uuid)
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        for ids in [&self.config.voters, &self.config.new_voters, &self.config.non_voters] {
            out.put_u32(u32::try_from(ids.len()).unwrap_or(u32::MAX));
            for id in ids {
                out.put_u64(id.get());
            }
        }
        out.put_u32(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        for member in self.members.values() {
            out.put_array(member.uuid.bytes());
            out.put_bytes(member.address.as_bytes());
        }
    }

    /// Reads what [`Self::write`] writes.
    ///
    /// # Errors
    ///
    /// It is cut, out of bounds, or its parts do not fit together.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut config = ClusterConfig::new();
        for ids in [&mut config.voters, &mut config.new_voters, &mut config.non_voters] {
            let count = reader.u32()? as usize;
            if count > MEMBERS_MAX {
                return Err(Malformed);
            }
            for _ in 0..count {
                // In order and none twice: one set has one form.
                let id = NodeId::new(reader.u64()?);
                if ids.last().is_some_and(|last| *last >= id) {
                    return Err(Malformed);
                }
                ids.insert(id);
            }
        }
        let count = reader.u32()? as usize;
        if count > MEMBERS_MAX {
            return Err(Malformed);
        }
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let uuid = Uuid::from_bytes(reader.array()?);
            let address = reader.str()?;
            let is_new = members.last_key_value().is_none_or(|(last, _)| *last < uuid.node_id());
            if address.len() > ADDRESS_MAX_BYTES || !is_new || !config.contains(uuid.node_id()) {
                return Err(Malformed);
            }
            members.insert(uuid.node_id(), Member { uuid, address: address.to_owned() });
        }
        let is_whole = config.unique_nodes().all(|id| members.contains_key(&id));
        let is_apart =
            config.voters.is_disjoint(&config.non_voters) && config.new_voters.is_disjoint(&config.non_voters);
        if is_whole && is_apart { Ok(Self { config, members }) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn membership() -> Membership {
        let mut membership = Membership::default();
        for number in 1..=4_u8 {
            let uuid = Uuid::from_random([number; 16]);
            membership.members.insert(uuid.node_id(), Member { uuid, address: format!("10.0.0.{number}:8080") });
            match number {
                4 => membership.config.non_voters.insert(uuid.node_id()),
                _ => membership.config.voters.insert(uuid.node_id()),
            };
        }
        membership
    }

    #[test]
    fn a_uuid_is_read_as_it_is_written() {
        let uuid = Uuid::from_random([0xab; 16]);
        assert_eq!(uuid.to_string(), "abababab-abab-4bab-abab-abababababab");
        assert_eq!(Uuid::parse(&uuid.to_string()), Some(uuid));
        assert_eq!(Uuid::parse(&uuid.to_string().to_uppercase()), Some(uuid));
        for wrong in ["", "abababab", "abababababab-4bab-abab-abababababab--", "gbababab-abab-4bab-abab-abababababab"] {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_membership_is_read_as_it_is_written_and_never_cut() {
        let membership = membership();
        let mut bytes = Vec::new();
        membership.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Membership::read(&mut reader), Ok(membership));
        assert!(reader.is_empty());
        for length in 0..bytes.len() {
            assert!(Membership::read(&mut Reader::new(&bytes[..length])).is_err(), "{length}");
        }
    }

    #[test]
    fn a_majority_in_a_joint_configuration_is_one_of_both() {
        let mut membership = membership();
        let ids: Vec<NodeId> = membership.config.voters.iter().copied().collect();
        assert!(membership.is_majority(|id| id != ids[0]));
        assert!(!membership.is_majority(|id| id == ids[0]));
        membership.config.new_voters = [ids[0]].into();
        assert!(!membership.is_majority(|id| id != ids[0]));
        assert!(membership.is_majority(|id| id != ids[1]));
    }
}
