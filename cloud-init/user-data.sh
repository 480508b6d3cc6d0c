#cloud-boothook
#!/bin/sh
# mapkeeper at each boot: the gate of ECS, then a service that tries until the program is right
g=/etc/systemd/system/ecs.service.d/10-mapkeeper.conf
[ -s $g ] || {
mkdir -p ${g%/*}
cat >$g.new <<E
[Unit]
After=mapkeeper-boot.service mapkeeper.service
[Service]
ExecStartPre=/usr/bin/mapkeeper wait
Restart=on-failure
RestartSec=10s
E
mv $g.new $g
systemctl daemon-reload
}
cat >/run/mapkeeper.sh <<'E'
p=/usr/bin/mapkeeper
right() { echo "@SHA256@  $1" | sha256sum -c --quiet; }
right $p >/dev/null 2>&1 || {
curl -fsSLm300 -o $p.new '@URL@' && right $p.new && chmod 755 $p.new && mv $p.new $p || exit
}
$p bootstrap --from /run/mapkeeper.toml
E
cat >/run/mapkeeper.toml <<'MAPKEEPER'
@CONFIG@
MAPKEEPER
systemd-run -umapkeeper-boot -G --no-block -pType=oneshot -pRestart=on-failure -pRestartSec=10 -pRestartPreventExitStatus=64 -pStandardError=journal+console sh /run/mapkeeper.sh
