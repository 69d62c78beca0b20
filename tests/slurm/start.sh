#!/usr/bin/env bash
# A one-node SLURM on this machine, from Debian's slurmctld, slurmd, slurm-client and munge,
# without systemd. As root:  tests/slurm/start.sh FOLDER
# FOLDER gets slurm.conf (for SLURM_CONF), logs, state and the *.pid of what was started.
set -euo pipefail
folder=$(realpath "$1")
node=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool" /run/munge

# munged insists on its own user and on folders that nobody else can write.
chown munge: /run/munge
chmod 755 /run/munge
if ! munge --no-input >/dev/null 2>&1; then
  runuser -u munge -- /usr/sbin/munged
  cp /run/munge/munged.pid "$folder/munged.pid"
fi

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# cred_expire: a requeued job waits for that long; 5 s, the least, rather than two minutes.
cat >"$folder/slurm.conf" <<EOF
ClusterName=tests
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
CryptoType=crypto/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF

export SLURM_CONF=$folder/slurm.conf
/usr/sbin/slurmctld -c
/usr/sbin/slurmd -c
for _ in $(seq 60); do
  if sinfo --noheader --format=%T 2>/dev/null | grep --quiet idle; then
    exit 0
  fi
  sleep 0.5
done
echo "SLURM did not come up; see the logs in $folder" >&2
exit 1
