#include <dap_chain_net_srv_vpn.h>
void vpn_service_initialization_example() {
log_it_info("=== VPN Service Initialization ===");
// Step 1: Load configuration
dap_config_t *config = dap_config_default();
if (!config) {
log_it_error("✗ Failed to load configuration");
return;
}
// Step 2: Pre-initialize VPN service
int pre_init_result = dap_chain_net_srv_vpn_pre_init();
if (pre_init_result != 0) {
log_it_error("✗ VPN service pre-initialization failed: %d", pre_init_result);
return;
}
log_it_info("✓ VPN service pre-initialized successfully");
log_it_info(" Service ID: 0x%016llX", DAP_CHAIN_NET_SRV_VPN_ID);
log_it_info(" Ledger tagging: Enabled");
// Step 3: Initialize full VPN service
int init_result = dap_chain_net_srv_vpn_init(config);
switch (init_result) {
case 0:
log_it_info("✓ VPN service initialized successfully");
log_it_info(" TUN device: Ready");
log_it_info(" Service registration: Complete");
log_it_info(" Command interface: Active");
break;
case -1:
log_it_error("✗ TUN initialization failed");
return;
case -2:
log_it_error("✗ TUN device creation failed");
return;
case -3:
log_it_error("✗ VPN service creation failed");
return;
case -100:
log_it_error("✗ Server configuration error");
return;
default:
log_it_error("✗ Unknown initialization error: %d", init_result);
return;
}
// Step 4: Verify service capabilities
log_it_info("VPN Service Capabilities:");
log_it_info(" • TUN/TAP interface management");
log_it_info(" • Dynamic IP allocation");
log_it_info(" • Encrypted packet routing");
log_it_info(" • Session management");
log_it_info(" • Blockchain billing integration");
log_it_info(" • Cross-platform support");
log_it_info(" • Traffic monitoring");
log_it_info("VPN service is ready for client connections");
log_it_info("VPN service initialization example completed");
}
