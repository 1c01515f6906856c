use bytes::Bytes;
use cuttlebone_mds::{
    Backtrace, CapReconnect, ClientCapRelease, ClientCaps, ClientLease, ClientMetadata, ClientQuota,
    ClientReclaim, ClientReclaimReply, ClientReconnect, ClientReply, ClientRequest, ClientRequestForward,
    ClientSession, ClientSnap, DirFrag, FileLayout, Frag, FragTree, FsMap, FsMapMessage, FsMapUser,
    FsMapUserMessage, InodeStat, MdsInfo, MdsMap, MdsMapMessage, MetricSpec, Quota, RequestRelease,
    SnapRealm, SnapRealmNew,
};
use cuttlebone_mon::{
    Command, CommandAck, Config, GetMap, GetVersion, GetVersionReply, Map, MonMap, Probe, StatFs,
    StatFsReply, Subscribe, SubscribeAck,
};
use cuttlebone_wire::{
    Body, Decode, DecodeError, Encode, EntityAddr, EntityAddrs, EntityInst, EntityName, EntityNum,
    FeatureSet, Features, Reader, Transaction,
};
use serde::Serialize;
use serde_json::{Map as Object, Value, json};

use super::Recorded;
use super::bodies::{Auth, AuthReply, Sync};
use super::stored_op::StoredOp;
use super::structure::Structure;

/// A type that can be decoded and encoded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Type {
    /// Its name in C++.
    pub name: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    codec: fn(&Bytes, Option<Features>) -> Result<Decoded, DecodeError>,
}

/// An object in all its forms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// Its fields.
    pub value: Value,
    /// The features whose form it was read in, or was asked for in.
    pub features: Features,
    /// Its bytes, written again.
    pub encoded: Bytes,
    /// How many bytes were read.
    pub read_bytes: usize,
}

/// Every type, sorted.
pub const TYPES: &[Type] = &[
    structure::<EntityName>("EntityName", "an entity as authentication names it"),
    structure::<FsMap>("FSMap", "all filesystems of a cluster"),
    structure::<FsMapUser>("FSMapUser", "the names of all filesystems"),
    structure::<InodeStat>("InodeStat", "an inode in a reply"),
    message::<Auth>("a step of authentication"),
    message::<AuthReply>("the answer to a step of authentication"),
    message::<ClientCapRelease>("gives capabilities back"),
    message::<ClientCaps>("gives, takes, moves or writes back a capability"),
    message::<ClientLease>("takes back, gives back or prolongs the lease of a name"),
    message::<ClientQuota>("how much of a quota is used"),
    message::<ClientReclaim>("takes over what another instance left behind"),
    message::<ClientReclaimReply>("how taking over went"),
    message::<ClientReconnect>("what a client holds, to a restarted metadata server"),
    message::<ClientReply>("what became of a request to a metadata server"),
    message::<ClientRequest>("asks a metadata server for one operation"),
    structure::<RequestRelease>("MClientRequest::Release", "a capability given back with a request"),
    message::<ClientRequestForward>("passes a request on to another metadata server"),
    message::<ClientSession>("opens, keeps up and closes a session with a metadata server"),
    message::<ClientSnap>("a change among snapshot realms"),
    message::<Config>("the central configuration, to a client"),
    structure::<MdsMap>("MDSMap", "the metadata servers of a filesystem"),
    structure::<MdsInfo>("MDSMap::mds_info_t", "one metadata server"),
    message::<FsMapMessage>("all filesystems, to a client"),
    message::<FsMapUserMessage>("the names of all filesystems, to a client"),
    message::<MdsMapMessage>("the metadata servers of a filesystem, to a client"),
    message::<Command>("a command for the monitors"),
    message::<CommandAck>("how a command went"),
    message::<GetMap>("asks for the monitor map"),
    message::<GetVersion>("asks how new a map is"),
    message::<GetVersionReply>("how new a map is"),
    message::<Map>("a monitor map, to a client"),
    message::<Probe>("how monitors find each other"),
    message::<Subscribe>("asks to be sent maps as they change"),
    message::<SubscribeAck>("until when subscriptions hold"),
    message::<Sync>("store synchronisation between monitors, both dialects"),
    message::<StatFs>("asks how full the cluster or a pool is"),
    message::<StatFsReply>("how full the cluster or a pool is"),
    structure::<MonMap>("MonMap", "the monitors of a cluster"),
    structure::<StoredOp>("MonitorDBStore::Op", "one operation on a monitor's store"),
    structure::<Transaction>("MonitorDBStore::Transaction", "operations on a monitor's store"),
    structure::<SnapRealm>("SnapRealmInfo", "a part of the tree with snapshots of its own"),
    structure::<SnapRealmNew>("SnapRealmInfoNew", "the same for clients that know the newer form"),
    structure::<CapReconnect>("cap_reconnect_t", "a capability that a client holds, to a restarted server"),
    structure::<ClientMetadata>("client_metadata_t", "what a metadata server remembers of a client"),
    structure::<DirFrag>("dirfrag_t", "one fragment of one directory"),
    structure::<EntityAddr>("entity_addr_t", "one address"),
    structure::<EntityAddrs>("entity_addrvec_t", "all addresses of an entity"),
    structure::<EntityInst>("entity_inst_t", "an entity and one address"),
    structure::<EntityNum>("entity_name_t", "an entity as maps number it"),
    structure::<FeatureSet>("feature_bitset_t", "feature bits of a metadata server's client"),
    structure::<FileLayout>("file_layout_t", "how contents are spread over objects"),
    structure::<Frag>("frag_t", "a part of a directory"),
    structure::<FragTree>("fragtree_t", "how a directory is divided"),
    structure::<Backtrace>("inode_backtrace_t", "where an inode was when it was last written"),
    structure::<MetricSpec>("metric_spec_t", "which metrics a client can send"),
    structure::<Quota>("quota_info_t", "what a directory may hold"),
];

impl Type {
    /// Decodes one object, which has to take all the bytes, and encodes it again: in the form and version that it
    /// had, or, with `features`, as for a peer that has these.
    ///
    /// # Errors
    ///
    /// Which field at which byte does not follow the encoding.
    pub fn decode(&self, bytes: &Bytes, features: Option<Features>) -> Result<Decoded, DecodeError> {
        (self.codec)(bytes, features)
    }
}

const fn structure<T: Structure>(name: &'static str, what: &'static str) -> Type {
    Type { name, what, codec: structure_codec::<T> }
}

fn structure_codec<T: Structure>(bytes: &Bytes, features: Option<Features>) -> Result<Decoded, DecodeError> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r)?;
    r.finish("end of the object")?;
    let shown = dump(&value);
    let (value, features) = match features {
        Some(features) => (value.renew(), features),
        None => (value, r.features_seen()),
    };
    Ok(Decoded { value: shown, features, encoded: value.to_bytes(features), read_bytes: bytes.len() })
}

const fn message<B: Body + Serialize>(what: &'static str) -> Type {
    Type { name: B::NAME, what, codec: message_codec::<B> }
}

fn message_codec<B: Body + Serialize>(
    bytes: &Bytes,
    features: Option<Features>,
) -> Result<Decoded, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut recorded = Recorded::decode(&mut r)?;
    r.finish("end of the object")?;
    let (body, seen) = B::decode(&recorded.message)?;
    let value = json!({"header": recorded.header(), "body": without_secrets(dump(&body))});
    recorded.message = match features {
        None => body.message_like(&recorded.message, seen),
        Some(features) => {
            let (version, compat_version) = B::version_for(features);
            let head = cuttlebone_wire::Message { version, compat_version, ..recorded.message.clone() };
            body.message_like(&head, features)
        }
    };
    let features = features.unwrap_or(seen);
    Ok(Decoded { value, features, encoded: recorded.to_bytes(features), read_bytes: bytes.len() })
}

/// The value's fields. Serialisation of plain records into memory cannot fail; if it ever does, the reason is shown.
fn dump(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| json!({"error": error.to_string()}))
}

/// The body of a message with the values taken out of commands that set them: monitors do not log these either.
///
/// Source: `ceph/ceph:src/messages/MMonCommand.h`, `print`.
fn without_secrets(mut body: Value) -> Value {
    for command in body.get_mut("cmd").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(Ok(Value::Object(fields))) = command.as_str().map(serde_json::from_str) else { continue };
        let prefix = fields.get("prefix").and_then(Value::as_str).unwrap_or_default();
        let shown = match prefix {
            "config set" => "name",
            "config-key set" | "config-key put" => "key",
            _ => continue,
        };
        let kept: Object<_, _> =
            fields.into_iter().filter(|(name, _)| name == "prefix" || name == shown).collect();
        *command = Value::String(Value::Object(kept).to_string());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &'static str) -> Value {
        let command = Command { command: vec![Bytes::from_static(command.as_bytes())], ..Command::default() };
        let mut recorded = Recorded::default();
        recorded.message = command.message(Features::PACIFIC, 7);
        let kind = TYPES.iter().find(|kind| kind.name == "MMonCommand").unwrap();
        let decoded = kind.decode(&recorded.to_bytes(Features::PACIFIC), None).unwrap();
        assert_eq!(decoded.encoded, recorded.to_bytes(Features::PACIFIC));
        decoded.value["body"]["cmd"][0].clone()
    }

    #[test]
    fn values_of_settings_are_not_shown() {
        assert_eq!(
            shown(r#"{"prefix":"config-key set","key":"dm-crypt/x","val":"secret"}"#),
            r#"{"prefix":"config-key set","key":"dm-crypt/x"}"#
        );
        assert_eq!(
            shown(r#"{"prefix":"config set","who":"osd","name":"a","value":"secret"}"#),
            r#"{"prefix":"config set","name":"a"}"#
        );
        assert_eq!(shown(r#"{"prefix":"status"}"#), r#"{"prefix":"status"}"#);
        assert_eq!(shown("osd tree"), "osd tree");
    }

    #[test]
    fn the_table_is_sorted_and_has_each_type_once() {
        assert!(TYPES.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn features_ask_for_the_form_of_their_reader() {
        let decode = |name: &str, bytes: Bytes, features| {
            let kind = TYPES.iter().find(|kind| kind.name == name).unwrap();
            kind.decode(&bytes, Some(Features(features))).unwrap().encoded
        };
        // A transaction of the oldest version becomes one of the newest.
        let old = Transaction::default().into_oldest().to_bytes(Features::PACIFIC);
        assert_eq!(decode("MonitorDBStore::Transaction", old, u64::MAX)[0], 2);
        let map = MonMap::default().to_bytes(Features::PACIFIC);
        assert_eq!(decode("MonMap", map.clone(), 0)[..2], [1, 0]);
        assert_eq!(decode("MonMap", map, Features::PACIFIC.0)[..2], [9, 6]);
        let mut subscribe = Recorded::default();
        subscribe.message = Subscribe::default().message(Features::PACIFIC, 0);
        let bytes = decode("MMonSubscribe", subscribe.to_bytes(Features::PACIFIC), 0);
        let recorded = Recorded::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!((recorded.message.version, recorded.message.compat_version), (0, 1));
    }
}
