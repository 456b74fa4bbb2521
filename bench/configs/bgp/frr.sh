#!/bin/sh
# Prints the accept-all transit configuration of the bench for FRR's bgpd. See README.md.
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
route-map NOTHING deny 10
router bgp $asn
 bgp router-id $router_id
 no bgp ebgp-requires-policy
 timers bgp 80 240
 bgp bestpath compare-routerid
EOF
for peer in "$@"; do
    split "$peer"
    cat <<EOF
 neighbor $addr remote-as $peer_asn
 neighbor $addr passive
 neighbor $addr advertisement-interval 0
EOF
done
echo " address-family ipv4 unicast"
for peer in "$@"; do
    split "$peer"
    case $role in
    in) echo "  neighbor $addr route-map NOTHING out" ;;
    out) echo "  neighbor $addr route-map NOTHING in" ;;
    esac
done
echo " exit-address-family"
