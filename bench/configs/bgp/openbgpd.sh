#!/bin/sh
# Prints the accept-all transit configuration of the bench for OpenBGPD. See README.md.
set -eu
router_id=$1 asn=$2
shift 2
# Splits PEER, ADDRESS,ASN[,ROLE], into variables.
split() {
    addr=${1%%,*} role=both peer_asn=${1#*,}
    case $peer_asn in *,*) role=${peer_asn#*,} peer_asn=${peer_asn%,*} ;; esac
    case $role in both | in | out) ;; *) echo "$0: role $role of $addr is not both, in or out" >&2; exit 2 ;; esac
}

cat <<EOF
AS $asn
router-id $router_id
fib-update no
holdtime 240
socket "${BGPD_SOCKET:-/run/bgpd.sock}"
EOF
for peer in "$@"; do
    split "$peer"
    echo "neighbor $addr {"
    echo "	remote-as $peer_asn"
    echo "	passive"
    case $role in in) echo "	export none" ;; esac
    echo "}"
done
echo "allow from ebgp"
echo "allow to ebgp"
