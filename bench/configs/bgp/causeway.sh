#!/bin/sh
# Prints the accept-all transit configuration of the bench for Causeway. See README.md.
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
apiVersion: causeway.dev/v1alpha1
kind: BGPClusterConfig
metadata:
  name: bench
spec:
  bgpInstances:
    - name: transit
      localASN: $asn
      routerID: $router_id
      multipathRelax: ${MULTIPATH_RELAX:-false}
      peers:
EOF
for peer in "$@"; do
    split "$peer"
    cat <<EOF
        - name: peer-$addr
          peerASN: $peer_asn
          peerAddress: $addr
          peerConfigRef: {name: $role}
EOF
done
cat <<EOF
---
apiVersion: causeway.dev/v1alpha1
kind: BGPFilter
metadata:
  name: everything
spec:
  defaultAction: Accept
EOF
for role in both in out; do
    policies=
    case $role in both | in) policies="import: [everything]" ;; esac
    case $role in
    both) policies="$policies, export: [everything]" ;;
    out) policies="export: [everything]" ;;
    esac
    cat <<EOF
---
apiVersion: causeway.dev/v1alpha1
kind: BGPPeerConfig
metadata:
  name: $role
spec:
  transport: {passive: true}
  timers: {holdTimeSeconds: 240}
  families:
    - {afi: ipv4, $policies}
EOF
done
