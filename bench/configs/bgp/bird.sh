#!/bin/sh
# Prints the accept-all transit configuration of the bench for BIRD 2. See README.md.
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
router id $router_id;
log stderr { warning, error, fatal, bug, auth };
protocol device {}
template bgp peer { local as $asn; passive; hold time 240; }
template bgp role_both from peer { ipv4 { import all; export all; }; }
template bgp role_in from peer { ipv4 { import all; export none; }; }
template bgp role_out from peer { ipv4 { import none; export all; }; }
EOF
number=0
for peer in "$@"; do
    split "$peer"
    number=$((number + 1))
    # "in" is a word of BIRD's language and can't name a template.
    echo "protocol bgp peer$number from role_$role { neighbor $addr as $peer_asn; }"
done
