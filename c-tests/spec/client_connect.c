#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>
void vpn_client_connection_example() {
log_it_info("=== VPN Client Connection Example ===");
// Step 1: Setup network context
dap_chain_net_t *net = dap_chain_net_by_name("backbone");
if (!net) {
log_it_error("✗ Network 'backbone' not found");
return;
}
// Step 2: Configure VPN server details
const char *vpn_server_host = "vpn.example.com";
uint16_t vpn_server_port = 8089;
log_it_info("VPN Connection Parameters:");
log_it_info(" Server: %s:%d", vpn_server_host, vpn_server_port);
log_it_info(" Network: %s", net->pub.name);
// Step 3: Check VPN server availability
log_it_info("--- Server Connectivity Check ---");
int check_result = dap_chain_net_vpn_client_check(
net,
vpn_server_host,
vpn_server_port,
1024, // Send 1KB test data
1024, // Receive 1KB test data
10000 // 10 second timeout
);
switch (check_result) {
case 0:
log_it_info("✓ VPN server connectivity check passed");
break;
case -1:
log_it_error("✗ Invalid parameters for server check");
return;
case -2:
log_it_error("✗ Failed to connect to VPN server");
return;
case -3:
log_it_error("✗ VPN server check timeout");
return;
default:
log_it_error("✗ Server check failed with code: %d", check_result);
return;
}
// Step 4: Check current VPN client status
dap_chain_net_vpn_client_status_t current_status = dap_chain_net_vpn_client_status();
log_it_info("Current VPN client status:");
switch (current_status) {
case VPN_CLIENT_STATUS_NOT_STARTED:
log_it_info(" Status: Not Started");
break;
case VPN_CLIENT_STATUS_STARTED:
log_it_info(" Status: Started and Connected");
log_it_info(" Action: Stopping existing connection first");
dap_chain_net_vpn_client_stop();
break;
case VPN_CLIENT_STATUS_STOPPED:
log_it_info(" Status: Stopped");
break;
case VPN_CLIENT_STATUS_CONN_LOST:
log_it_info(" Status: Connection Lost");
log_it_info(" Action: Cleaning up previous connection");
dap_chain_net_vpn_client_stop();
break;
}
// Step 5: Start VPN connection
log_it_info("--- Starting VPN Connection ---");
int start_result = dap_chain_net_vpn_client_start(net, vpn_server_host, vpn_server_port);
switch (start_result) {
case 0:
log_it_info("✓ VPN client started successfully");
break;
case 1:
log_it_info("VPN client already started");
break;
case -1:
log_it_error("✗ Invalid connection parameters");
return;
case -2:
log_it_error("✗ Failed to connect to VPN server");
return;
case -3:
log_it_error("✗ No response from VPN server");
return;
default:
log_it_error("✗ VPN connection failed: %d", start_result);
return;
}
// Step 6: Verify connection establishment
dap_stream_ch_t *vpn_channel = dap_chain_net_vpn_client_get_stream_ch();
dap_stream_worker_t *vpn_worker = dap_chain_net_vpn_client_get_stream_worker();
if (vpn_channel && vpn_worker) {
log_it_info("✓ VPN connection established");
log_it_info(" Stream channel: Active");
log_it_info(" Worker thread: Assigned");
log_it_info(" Ready for data transmission");
} else {
log_it_error("✗ VPN connection incomplete");
log_it_error(" Channel: %s", vpn_channel ? "OK" : "Missing");
log_it_error(" Worker: %s", vpn_worker ? "OK" : "Missing");
}
// Step 7: Monitor connection status
current_status = dap_chain_net_vpn_client_status();
switch (current_status) {
case VPN_CLIENT_STATUS_STARTED:
log_it_info("✓ VPN client is active and connected");
break;
case VPN_CLIENT_STATUS_CONN_LOST:
log_it_error("✗ VPN connection lost");
break;
default:
log_it_warning("VPN client status: %d", current_status);
break;
}
log_it_info("VPN client connection example completed");
log_it_info("Note: Call dap_chain_net_vpn_client_stop() to disconnect");
}
