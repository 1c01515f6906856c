use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cuttlebone_wire::{EntityAddrs, EntityName, EntityType};

use crate::args::Global;
use crate::conf::Conf;
use crate::exit::{Exit, Failed};
use crate::mon_host::MonHost;

/// What surrounds a command: who it is, which cluster it means, and the configuration file that applies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Environment {
    /// The cluster's name: `--cluster`, else the configuration file's name without `.conf`, else `ceph`.
    pub cluster: String,
    /// Who asks: `client.admin` if nothing else is said.
    pub name: EntityName,
    /// The configuration file, empty if there is none.
    pub conf: Conf,
    mon_host: Option<String>,
}

/// Where configuration files are and who looks for them, apart from the process so that tests can say it.
#[derive(Clone, Debug, Default)]
struct Places {
    ceph_conf: Option<String>,
    home: Option<PathBuf>,
    etc: PathBuf,
    here: PathBuf,
}

/// Largest configuration file that is read, in bytes.
const CONF_BYTES_MAX: u64 = 16 * 1024 * 1024;

impl Environment {
    /// What surrounds this process.
    ///
    /// # Errors
    ///
    /// If a configuration file was named and cannot be read, or one that was found makes no sense.
    pub fn load(global: &Global) -> Result<Self> {
        let places = Places {
            ceph_conf: env::var("CEPH_CONF").ok(),
            home: env::home_dir(),
            etc: "/etc/ceph".into(),
            here: PathBuf::new(),
        };
        Self::from_places(global, &places)
    }

    fn from_places(global: &Global, places: &Places) -> Result<Self> {
        let name = name(global)?;
        let found = places.find(global)?;
        let from_file = found.as_ref().and_then(|(path, _)| path.file_stem()).and_then(OsStr::to_str);
        let cluster = global.cluster.as_deref().or(from_file).unwrap_or("ceph").into();
        let conf = match found {
            Some((path, text)) => text.parse().with_context(|| path.display().to_string())?,
            None => Conf::default(),
        };
        Ok(Self { cluster, name, conf, mon_host: global.mon_host.clone() })
    }

    /// An option's value from the configuration file, its variables replaced: that of `[client.admin]`, else
    /// `[client]`, else `[global]`.
    pub fn option(&self, key: &str) -> Option<String> {
        Some(Conf::expand(self.raw(key)?, &|name| self.variable(name)))
    }

    fn raw(&self, key: &str) -> Option<&str> {
        let (name, kind) = (self.name.to_string(), self.name.kind.to_string());
        self.conf.get([name.as_str(), kind.as_str(), "global"], key)
    }

    /// Source: `ceph/ceph:src/common/config.cc`, `md_config_t::expand_meta`; compared with `ceph-conf` 16.2.15.
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "cluster" => Some(self.cluster.clone()),
            "type" => Some(self.name.kind.to_string()),
            "id" | "num" => Some(self.name.id.clone()),
            "name" => Some(self.name.to_string()),
            "host" => Some(host_name()),
            "pid" => Some(std::process::id().to_string()),
            key => self.raw(key).map(String::from),
        }
    }

    /// Where the monitors are: `-m`, else `mon_host`, else the `mon_addr` of each `[mon.…]` section.
    ///
    /// # Errors
    ///
    /// If nothing says so, or what does makes no sense, or a host name cannot be looked up.
    pub fn monitors(&self) -> Result<Vec<EntityAddrs>> {
        let of_sections = || {
            let sections = self.conf.sections().filter(|name| name.starts_with("mon."));
            let addrs: Vec<_> = sections.filter_map(|name| self.conf.get([name], "mon_addr")).collect();
            (!addrs.is_empty()).then(|| addrs.join(","))
        };
        let text = self.mon_host.clone().or_else(|| self.option("mon_host")).or_else(of_sections);
        let text = text.with_context(|| {
            Failed::new(Exit::Usage, "no monitors: give -m ADDRS, or -c FILE with mon_host in it")
        })?;
        Ok(text.parse::<MonHost>()?.resolve()?)
    }
}

impl Places {
    /// The configuration file's path and text. The first that can be read counts; one that was named must be.
    ///
    /// Source: `ceph/ceph:src/common/config.cc`, `CEPH_CONF_FILE_DEFAULT` and `parse_config_files`; that `-c` beats
    /// `CEPH_CONF` was checked with 16.2.15.
    fn find(&self, global: &Global) -> Result<Option<(PathBuf, String)>> {
        let named: Vec<PathBuf> = match (&global.conf, &self.ceph_conf) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(list)) => list.split([',', ';']).map(|path| path.trim().into()).collect(),
            (None, None) => Vec::new(),
        };
        let must_exist = !named.is_empty();
        let paths = if must_exist { named } else { self.searched(global) };
        let mut first_error = None;
        for path in paths {
            match read(&path) {
                Ok(text) => return Ok(Some((path, text))),
                Err(error) if must_exist => {
                    first_error.get_or_insert(anyhow::Error::new(error).context(path.display().to_string()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    fn searched(&self, global: &Global) -> Vec<PathBuf> {
        let file = format!("{}.conf", global.cluster.as_deref().unwrap_or("ceph"));
        let home = self.home.as_ref().map(|home| home.join(".ceph").join(&file));
        [Some(self.etc.join(&file)), home, Some(self.here.join(&file))].into_iter().flatten().collect()
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(CONF_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn name(global: &Global) -> Result<EntityName> {
    match (&global.name, &global.id) {
        (Some(name), _) => {
            name.parse().with_context(|| Failed::new(Exit::Usage, format_args!("--name {name}")))
        }
        (None, id) => Ok(EntityName::new(EntityType::CLIENT, id.as_deref().unwrap_or("admin"))),
    }
}

/// The host's name up to its first dot, as Ceph's `$host` has it.
pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.split('.').next().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_searched_in_ceph_s_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["etc", "home/.ceph", "here"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let mut places = Places { ceph_conf: None, home: Some(at("home")), etc: at("etc"), here: at("here") };
        let which = |global: &Global, places: &Places| {
            Environment::from_places(global, places).map(|env| (env.option("which"), env.cluster))
        };
        let write = |path: &str| fs::write(at(path), format!("[global]\nwhich = {path}\n")).unwrap();
        let found = |path: &str, cluster: &str| (Some(String::from(path)), String::from(cluster));
        let mut global = Global::default();

        assert_eq!(which(&global, &places).unwrap(), (None, "ceph".into()));
        for path in ["here/ceph.conf", "home/.ceph/ceph.conf", "etc/ceph.conf"] {
            write(path);
            assert_eq!(which(&global, &places).unwrap(), found(path, "ceph"));
        }
        write("here/blue.conf");
        global.cluster = Some("blue".into());
        assert_eq!(which(&global, &places).unwrap(), found("here/blue.conf", "blue"));
        global.cluster = None;
        places.ceph_conf = Some(format!("{},{}", at("none.conf").display(), at("here/blue.conf").display()));
        assert_eq!(which(&global, &places).unwrap(), found("here/blue.conf", "blue"));
        write("b.conf");
        global.conf = Some(at("b.conf"));
        assert_eq!(which(&global, &places).unwrap(), found("b.conf", "b"));
        global.conf = Some(at("none.conf"));
        let error = which(&global, &places).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NotFound);
        global.conf = Some("/dev/null".into());
        assert_eq!(which(&global, &places).unwrap().0, None);
    }

    #[test]
    fn the_nearest_section_counts_and_monitors_have_a_fall_back() {
        let conf = "[global]\nmon host = 10.0.0.1:3300\na = g\nb = g\n[client]\nb = c $name\n[mon.x]\nmon addr = 10.0.0.9:6789\n";
        let mut env = Environment {
            cluster: "ceph".into(),
            name: "client.me".parse().unwrap(),
            conf: conf.parse().unwrap(),
            mon_host: None,
        };
        assert_eq!(env.option("a").as_deref(), Some("g"));
        assert_eq!(env.option("b").as_deref(), Some("c client.me"));
        let monitors = |env: &Environment| env.monitors().unwrap()[0].to_string();
        assert_eq!(monitors(&env), "v2:10.0.0.1:3300/0");
        env.mon_host = Some("v2:10.0.0.2:1".into());
        assert_eq!(monitors(&env), "v2:10.0.0.2:1/0");
        env.mon_host = None;
        env.conf = conf.replace("mon host", "mon-host").parse().unwrap();
        assert_eq!(monitors(&env), "v1:10.0.0.9:6789/0");
        env.conf = Conf::default();
        assert_eq!(Exit::of(&env.monitors().unwrap_err()), Exit::Usage);
    }
}
