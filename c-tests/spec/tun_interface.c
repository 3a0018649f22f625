#include <dap_chain_net_vpn_client_tun.h>
void vpn_tun_interface_example() {
log_it_info("=== VPN TUN Interface Management ===");
// Step 1: Setup IP configuration
const char *client_ip = "10.0.1.100";
const char *gateway_ip = "10.0.1.1";
log_it_info("TUN Interface Configuration:");
log_it_info(" Client IP: %s", client_ip);
log_it_info(" Gateway IP: %s", gateway_ip);
// Step 2: Initialize TUN interface
log_it_info("--- TUN Interface Initialization ---");
int init_result = dap_chain_net_vpn_client_tun_init(gateway_ip);
if (init_result == 0) {
log_it_info("✓ TUN interface initialized successfully");
} else {
log_it_error("✗ TUN interface initialization failed: %d", init_result);
return;
}
// Step 3: Create TUN interface
log_it_info("--- TUN Interface Creation ---");
int create_result = dap_chain_net_vpn_client_tun_create(client_ip, gateway_ip);
if (create_result == 0) {
log_it_info("✓ TUN interface created successfully");
log_it_info(" Interface: tun0 (or equivalent)");
log_it_info(" IP Address: %s", client_ip);
log_it_info(" Gateway: %s", gateway_ip);
log_it_info(" Status: Ready for packet routing");
} else {
log_it_error("✗ TUN interface creation failed: %d", create_result);
return;
}
// Step 4: Get TUN event socket
dap_events_socket_t *tun_socket = dap_chain_net_vpn_client_tun_get_esock();
if (tun_socket) {
log_it_info("✓ TUN event socket obtained");
log_it_info(" Socket: Available for packet processing");
log_it_info(" Event handling: Enabled");
} else {
log_it_warning("TUN event socket not available");
}
// Step 5: Check TUN interface status
int status = dap_chain_net_vpn_client_tun_status();
log_it_info("TUN Interface Status:");
switch (status) {
case 0:
log_it_info(" Status: Interface active and operational");
break;
case 1:
log_it_info(" Status: Interface created but not active");
break;
default:
log_it_info(" Status: Unknown or error (%d)", status);
break;
}
// Step 6: Simulate interface usage period
log_it_info("--- Interface Usage Simulation ---");
log_it_info("TUN interface capabilities:");
log_it_info(" • Packet capture from application layer");
log_it_info(" • Packet injection to network stack");
log_it_info(" • IP routing and forwarding");
log_it_info(" • Network isolation and security");
log_it_info(" • Traffic monitoring and statistics");
// Step 7: Cleanup TUN interface
log_it_info("--- TUN Interface Cleanup ---");
int delete_result = dap_chain_net_vpn_client_tun_delete();
if (delete_result == 0) {
log_it_info("✓ TUN interface deleted successfully");
log_it_info(" Interface: Removed from system");
log_it_info(" Resources: Cleaned up");
log_it_info(" Network routes: Restored");
} else {
log_it_error("✗ TUN interface deletion failed: %d", delete_result);
log_it_warning("Manual cleanup may be required");
}
log_it_info("VPN TUN interface management example completed");
}
