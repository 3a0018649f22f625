/* An older name of dap_chain_net_srv_vpn.h.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_STREAM_CH_VPN_H
#define DAP_STREAM_CH_VPN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dap_chain_net_srv_vpn.h"

#endif  /* DAP_STREAM_CH_VPN_H */
