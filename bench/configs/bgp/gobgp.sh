#!/bin/sh
# Prints the accept-all transit configuration of the bench for GoBGP. See README.md.
set -eu
router_id=$1 asn=$2
shift 2
# Splits PEER, ADDRESS,ASN[,ROLE], into variables.
split() {
    addr=${1%%,*} role=both peer_asn=${1#*,}
    case $peer_asn in *,*) role=${peer_asn#*,} peer_asn=${peer_asn%,*} ;; esac
    case $role in both | in | out) ;; *) echo "$0: role $role of $addr is not both, in or out" >&2; exit 2 ;; esac
}

listeners=
for peer in "$@"; do
    split "$peer"
    case $role in both | out) listeners="$listeners${listeners:+, }\"$addr\"" ;; esac
done
cat <<EOF
[global.config]
as = $asn
router-id = "$router_id"
[global.apply-policy.config]
export-policy-list = ["export"]
default-export-policy = "reject-route"
[[defined-sets.neighbor-sets]]
neighbor-set-name = "listeners"
neighbor-info-list = [$listeners]
[[policy-definitions]]
name = "export"
[[policy-definitions.statements]]
name = "to-listeners"
[policy-definitions.statements.conditions.match-neighbor-set]
neighbor-set = "listeners"
[policy-definitions.statements.actions]
route-disposition = "accept-route"
EOF
for peer in "$@"; do
    split "$peer"
    cat <<EOF
[[neighbors]]
[neighbors.config]
neighbor-address = "$addr"
peer-as = $peer_asn
[neighbors.transport.config]
passive-mode = true
[neighbors.timers.config]
hold-time = 240
keepalive-interval = 80
EOF
done
