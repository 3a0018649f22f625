/* The embedded SDK under the name of the SDK's header. */
#include "dap_embedded_sdk.h"
