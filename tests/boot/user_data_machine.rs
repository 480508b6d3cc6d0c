//! What `main.rs` shows in a container, on a machine: firmware, kernel 6.1, cloud-init with tokens, a real power cut, NFS.
//!
//! Not among the tests that are run by themselves: `make test-boot`. Needs what `emulator.rs` says.

use crate::scenario::{ECS, lives};
use crate::world::{Aws, Host, Metadata, shipped};

#[test]
fn a_stock_machine_serves_maps_by_user_data_alone_and_after_whatever_befalls_it() {
    let aws = Aws::start(&shipped(), Metadata::Tokens);
    let host = lives(Host::new(aws, ECS, crate::emulated::stock));
    serves_nfs(&host);
}

/// A mount of NFS beside the bucket: put up in the sandbox of the unit, kept by a restart, put up again when it is gone.
fn serves_nfs(host: &Host) {
    host.sh(
        "mkdir /export && echo shared >/export/file && echo '/export 127.0.0.1(ro,no_subtree_check)' >/etc/exports
        cd /etc/systemd/system && rm nfs-server.service rpcbind.service rpcbind.socket && systemctl daemon-reload
        systemctl start nfs-server",
    );
    host.sh(
        "printf '[[mount]]\\nname = \"shared\"\\nsource = \"nfs://127.0.0.1/export\"\\npath = \"/srv/shared\"\\n' \\
         >>/etc/mapkeeper/config.toml && systemctl reload mapkeeper",
    );
    let device = |host: &Host| {
        host.says("awk '$5 == \"/srv/shared\" && / nfs4 / { print $3 }' /proc/self/mountinfo").0
    };
    let serves = |host: &Host| {
        let (status, good) = host.says("mapkeeper status");
        good && status.contains("mount shared")
            && !device(host).is_empty()
            && host.says("cat /srv/shared/file").0 == "shared"
    };
    host.until("the mount of NFS", serves);
    let mounted = device(host);
    host.sh("systemctl restart mapkeeper");
    host.until("health", serves);
    assert_eq!(device(host), mounted, "a restart mounted it again");
    host.sh("umount /srv/shared");
    host.until("another mount of NFS", serves);
    println!("{}", host.says("mapkeeper status").0);
}
