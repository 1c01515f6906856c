//! The operations of the model, done by us and by Ceph's own client, with answers in the same words.

use anyhow::Result;
use cuttlebone_fs::{AttrChanges, Error, FileSystem, Metadata, Resize, XattrMode};
use cuttlebone_testkit::SecondClient;
use cuttlebone_wire::WallTime;
use serde_json::{Value, json};

use crate::op::{Op, Outcome};
use crate::world::{blocking, soon};

/// Attributes in the words of the model.
pub(crate) fn shown(metadata: &Metadata) -> Value {
    let kind = if metadata.is_dir() {
        "dir"
    } else if metadata.is_symlink() {
        "symlink"
    } else {
        "file"
    };
    json!({
        "type": kind,
        "mode": metadata.mode,
        "uid": metadata.uid,
        "gid": metadata.gid,
        "nlink": metadata.nlink,
        "size": metadata.size,
        "atime": metadata.atime.secs,
        "mtime": metadata.mtime.secs,
    })
}

fn shown_by_second(mut stat: Value) -> Value {
    let mode = stat["mode"].as_u64().unwrap_or_default();
    let kind = match mode & 0o170_000 {
        0o040_000 => "dir",
        0o120_000 => "symlink",
        _ => "file",
    };
    stat["type"] = json!(kind);
    stat["mode"] = json!(mode & 0o7777);
    stat
}

/// Whether an answer is what the model expects, which does not know everything about an inode.
pub(crate) fn agrees(found: &Value, expected: &Value) -> bool {
    match expected.as_object() {
        Some(fields) => fields.iter().all(|(name, value)| found.get(name) == Some(value)),
        None => found == expected,
    }
}

/// The name of a part of a layout, which depends on what has it.
fn layout_name(is_dir: bool, field: &str) -> String {
    format!("ceph.{}.layout.{field}", if is_dir { "dir" } else { "file" })
}

/// Our answer.
///
/// # Errors
///
/// One that no system call would have, or none in time.
pub(crate) async fn ours(fs: &FileSystem, op: &Op) -> Result<Outcome> {
    match soon(&format!("{op:?}"), done_by_us(fs, op)).await? {
        Ok(value) => Ok(Ok(value)),
        Err::<_, Error>(error) => match error.errno() {
            Some(errno) => Ok(Err(errno.0)),
            None => Err(error.into()),
        },
    }
}

async fn done_by_us(fs: &FileSystem, op: &Op) -> Result<Value, Error> {
    Ok(match op {
        Op::Mkdir(path) => fs.mkdir(path, 0o755).await.map(|_| Value::Null)?,
        Op::Create(path) => fs.create(path, 0o644).await.map(|_| Value::Null)?,
        Op::Unlink(path) => fs.unlink(path).await.map(|()| Value::Null)?,
        Op::Rmdir(path) => fs.rmdir(path).await.map(|()| Value::Null)?,
        Op::Rename(from, to) => fs.rename(from, to).await.map(|()| Value::Null)?,
        Op::Link(from, to) => fs.link(from, to).await.map(|_| Value::Null)?,
        Op::Symlink(target, path) => fs.symlink(target, path).await.map(|_| Value::Null)?,
        Op::Chmod(path, mode) => {
            change(fs, path, AttrChanges { mode: Some(*mode), ..AttrChanges::default() }).await?
        }
        Op::Chown(path, uid, gid) => {
            let changes = AttrChanges { uid: Some(*uid), gid: Some(*gid), ..AttrChanges::default() };
            change(fs, path, changes).await?
        }
        Op::Times(path, atime, mtime) => {
            let at = |secs: &u64| WallTime { secs: u32::try_from(*secs).unwrap_or_default(), nanos: 0 };
            let changes =
                AttrChanges { atime: Some(at(atime)), mtime: Some(at(mtime)), ..AttrChanges::default() };
            change(fs, path, changes).await?
        }
        Op::Truncate(path, to) => {
            let from = fs.stat(path).await?.size;
            let size = Some(Resize { from, to: *to });
            change(fs, path, AttrChanges { size, ..AttrChanges::default() }).await?
        }
        Op::SetXattr(path, name, value, flags) => {
            let mode = [XattrMode::Either, XattrMode::Create, XattrMode::Replace][*flags as usize];
            fs.set_xattr_as(path, name, value, mode).await.map(|()| Value::Null)?
        }
        Op::RemoveXattr(path, name) => fs.remove_xattr(path, name).await.map(|()| Value::Null)?,
        Op::GetXattr(path, name) | Op::Count(path, name) => text(&fs.get_xattr(path, name).await?),
        Op::ListXattrs(path) => {
            let names = fs.list_xattrs(path).await?.into_keys();
            json!(names.map(|name| text(&name)).collect::<Vec<_>>())
        }
        Op::SetLayout(path, field, value) => {
            let name = layout_name(fs.stat(path).await?.is_dir(), field);
            fs.set_xattr(path, name, value.to_string()).await.map(|()| Value::Null)?
        }
        Op::GetLayout(path, field) => {
            let name = layout_name(fs.stat(path).await?.is_dir(), field);
            text(&fs.get_xattr(path, name).await?)
        }
        Op::MakeSnapshot(path, name) => fs.make_snapshot(path, name).await.map(|()| Value::Null)?,
        Op::RemoveSnapshot(path, name) => fs.remove_snapshot(path, name).await.map(|()| Value::Null)?,
        Op::RenameSnapshot(path, from, to) => {
            fs.rename_snapshot(path, from, to).await.map(|()| Value::Null)?
        }
        Op::Snapshots(path) => {
            let all = fs.snapshots(path).await?;
            // Those of directories above have names that begin with this.
            let own = all.iter().filter(|snapshot| !snapshot.name.starts_with(b"_"));
            let mut names: Vec<_> = own.map(|snapshot| String::from_utf8_lossy(&snapshot.name)).collect();
            names.sort();
            json!(names)
        }
        Op::Stat(path) => shown(&fs.stat(path).await?),
        Op::ReadDir(path) => {
            let mut names = Vec::new();
            let mut dir = fs.read_dir(path);
            while let Some(entry) = dir.next().await {
                names.push(String::from_utf8_lossy(&entry?.name).into_owned());
            }
            names.sort();
            json!(names)
        }
        Op::ReadLink(path) => text(&fs.read_link(path).await?),
    })
}

async fn change(fs: &FileSystem, path: &str, changes: AttrChanges) -> Result<Value, Error> {
    fs.set_attributes(path, changes).await.map(|_| Value::Null)
}

fn text(bytes: &[u8]) -> Value {
    json!(String::from_utf8_lossy(bytes))
}

/// The second client's answer.
///
/// # Errors
///
/// If it has died or does not answer.
pub(crate) fn theirs(second: &mut SecondClient, op: &Op) -> Result<Outcome> {
    let mut call = |op: &str, arguments: &[Value]| blocking(|| second.call(op, arguments));
    let nothing = |outcome: Outcome| outcome.map(|_| Value::Null);
    let outcome = match op {
        Op::Mkdir(path) => nothing(call("mkdir", &[json!(path)])?),
        Op::Create(path) => nothing(call("create", &[json!(path)])?),
        Op::Unlink(path) => nothing(call("unlink", &[json!(path)])?),
        Op::Rmdir(path) => nothing(call("rmdir", &[json!(path)])?),
        Op::Rename(from, to) => nothing(call("rename", &[json!(from), json!(to)])?),
        Op::Link(from, to) => nothing(call("link", &[json!(from), json!(to)])?),
        Op::Symlink(target, path) => nothing(call("symlink", &[json!(target), json!(path)])?),
        Op::Chmod(path, mode) => nothing(call("chmod", &[json!(path), json!(mode)])?),
        Op::Chown(path, uid, gid) => nothing(call("chown", &[json!(path), json!(uid), json!(gid)])?),
        Op::Times(path, atime, mtime) => nothing(call("utime", &[json!(path), json!(atime), json!(mtime)])?),
        Op::Truncate(path, to) => nothing(call("truncate", &[json!(path), json!(to)])?),
        Op::SetXattr(path, name, value, flags) => {
            nothing(call("setxattr", &[json!(path), json!(name), json!(value), json!(flags)])?)
        }
        Op::RemoveXattr(path, name) => nothing(call("removexattr", &[json!(path), json!(name)])?),
        Op::GetXattr(path, name) | Op::Count(path, name) => call("getxattr", &[json!(path), json!(name)])?,
        Op::ListXattrs(path) => call("listxattr", &[json!(path)])?,
        Op::SetLayout(path, field, value) => match call("stat", &[json!(path)])?.map(shown_by_second) {
            Ok(stat) => {
                let name = layout_name(stat["type"] == "dir", field);
                nothing(call("setxattr", &[json!(path), json!(name), json!(value.to_string())])?)
            }
            error => error,
        },
        Op::GetLayout(path, field) => match call("stat", &[json!(path)])?.map(shown_by_second) {
            Ok(stat) => call("getxattr", &[json!(path), json!(layout_name(stat["type"] == "dir", field))])?,
            error => error,
        },
        Op::MakeSnapshot(path, name) => nothing(call("mksnap", &[json!(path), json!(name)])?),
        Op::RemoveSnapshot(path, name) => nothing(call("rmsnap", &[json!(path), json!(name)])?),
        Op::RenameSnapshot(path, from, to) => nothing(call(
            "rename",
            &[json!(format!("{path}/.snap/{from}")), json!(format!("{path}/.snap/{to}"))],
        )?),
        Op::Snapshots(path) => call("lssnap", &[json!(path)])?,
        Op::ReadLink(path) => call("readlink", &[json!(path)])?,
        Op::Stat(path) => call("stat", &[json!(path)])?.map(shown_by_second),
        Op::ReadDir(path) => call("readdir", &[json!(path)])?.map(|entries| {
            let entries = entries.as_array().cloned().unwrap_or_default();
            json!(entries.iter().map(|entry| entry[0].clone()).collect::<Vec<_>>())
        }),
    };
    // What it has changed and not told the server yet would go with it, and it does not live long.
    if op.is_kept_back() && outcome.is_ok() {
        call("sync", &[])?.map_err(|errno| anyhow::anyhow!("sync: errno {errno}"))?;
    }
    Ok(outcome)
}
