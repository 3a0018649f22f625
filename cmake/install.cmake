# With the embedded SDK: the targets dap_chain_net_srv_vpn::static and ::shared of the build tree, and what is installed
# for programs outside of it. Both name the same targets, so that a program can change between the two.

# The version in the SONAME is the major version, as in build/c-library: within it, the C interface is only added to.
set(VPN_SHARED_NAME "${SHARED_NAME}")
set(VPN_ARCHIVE_NAME "${ARCHIVE_NAME}")
set(FULL_NAME "${SHARED_NAME}.${PROJECT_VERSION}")
set(SONAME "${SHARED_NAME}.${PROJECT_VERSION_MAJOR}")

add_library(${PROJECT_NAME}::static ALIAS ${PROJECT_NAME})

# cargo does not write version numbers into file names, so the library is put under its full name, with the links that
# the loader and the linker look for.
set(STAGE_RELEASE "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(STAGE_DEBUG "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(STAGE "${STAGE_RELEASE}")
set(STAGED "${STAGE}/${FULL_NAME}")
if(CMAKE_CONFIGURATION_TYPES)
    set(STAGE_DEBUG "${CMAKE_CURRENT_BINARY_DIR}/lib-debug")
    set(STAGE "$<IF:$<CONFIG:Debug>,${STAGE_DEBUG},${STAGE_RELEASE}>")
    list(APPEND STAGED "${STAGE_DEBUG}/${FULL_NAME}")
endif()
if(VPN_SHARED)
    add_custom_target(${PROJECT_NAME}_stage ALL
        COMMAND ${CMAKE_COMMAND} -E make_directory "${STAGE}"
        COMMAND ${CMAKE_COMMAND} -E copy_if_different
            "$<IF:$<CONFIG:Debug>,${BUILT_DEBUG},${BUILT_RELEASE}>/${SHARED_NAME}" "${STAGE}/${FULL_NAME}"
        COMMAND ${CMAKE_COMMAND} -E create_symlink "${FULL_NAME}" "${STAGE}/${SONAME}"
        COMMAND ${CMAKE_COMMAND} -E create_symlink "${SONAME}" "${STAGE}/${SHARED_NAME}"
        BYPRODUCTS ${STAGED}
        VERBATIM)
    add_dependencies(${PROJECT_NAME}_stage ${PROJECT_NAME}_cargo)
    add_library(${PROJECT_NAME}::shared SHARED IMPORTED GLOBAL)
    add_dependencies(${PROJECT_NAME}::shared ${PROJECT_NAME}_stage)
    set_target_properties(${PROJECT_NAME}::shared PROPERTIES
        IMPORTED_LOCATION "${STAGE_RELEASE}/${FULL_NAME}"
        IMPORTED_LOCATION_DEBUG "${STAGE_DEBUG}/${FULL_NAME}"
        IMPORTED_SONAME "${SONAME}"
        INTERFACE_INCLUDE_DIRECTORIES
            "${CMAKE_CURRENT_SOURCE_DIR}/include;${CMAKE_CURRENT_SOURCE_DIR}/include/embedded")
endif()

string(COMPARE EQUAL "${CMAKE_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}" TOP_LEVEL)
option(VPN_INSTALL "With the embedded SDK, install the VPN service's headers and libraries" ${TOP_LEVEL})
if(NOT VPN_INSTALL)
    return()
endif()

# --- what is installed --------------------------------------------------------------------------------------------
# Two components: what a program needs at run time, and what building one needs.
set(RUNTIME COMPONENT ${PROJECT_NAME}_runtime)
set(DEVELOPMENT COMPONENT ${PROJECT_NAME}_development)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
# All headers in one directory of their own: those of the embedded SDK have the names of the Cellframe SDK's.
set(VPN_INSTALL_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}/${PROJECT_NAME}")
set(VPN_INSTALL_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
set(VPN_INSTALL_CMAKEDIR "${CMAKE_INSTALL_LIBDIR}/cmake/${PROJECT_NAME}")

file(GLOB HEADERS "${CMAKE_CURRENT_SOURCE_DIR}/include/*.h" "${CMAKE_CURRENT_SOURCE_DIR}/include/embedded/*.h")
install(FILES ${HEADERS} DESTINATION "${VPN_INSTALL_INCLUDEDIR}" ${DEVELOPMENT})
install(FILES "$<TARGET_FILE:${PROJECT_NAME}_rust>" DESTINATION "${VPN_INSTALL_LIBDIR}" ${DEVELOPMENT})
if(VPN_SHARED)
    install(FILES "${STAGE}/${FULL_NAME}" "${STAGE}/${SONAME}" DESTINATION "${VPN_INSTALL_LIBDIR}" ${RUNTIME})
    install(FILES "${STAGE}/${SHARED_NAME}" DESTINATION "${VPN_INSTALL_LIBDIR}" ${DEVELOPMENT})
endif()

configure_package_config_file(
    cmake/${PROJECT_NAME}Config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}Config.cmake"
    INSTALL_DESTINATION "${VPN_INSTALL_CMAKEDIR}"
    PATH_VARS VPN_INSTALL_INCLUDEDIR VPN_INSTALL_LIBDIR
    NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}ConfigVersion.cmake"
    VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMajorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}Config.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}ConfigVersion.cmake"
    DESTINATION "${VPN_INSTALL_CMAKEDIR}" ${DEVELOPMENT})

# The pkg-config file finds the prefix from its own place, so that the installed tree can be moved, as CMake's files do.
# Only an absolute directory, which some distributions use, is written as it is.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
    set(PC_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
else()
    file(RELATIVE_PATH UP "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
    string(REGEX REPLACE "/$" "" PC_PREFIX "\${pcfiledir}/${UP}")
    set(PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    set(PC_INCLUDEDIR "${VPN_INSTALL_INCLUDEDIR}")
else()
    set(PC_INCLUDEDIR "\${prefix}/${VPN_INSTALL_INCLUDEDIR}")
endif()
string(REPLACE ";" " -l" PC_LIBS_PRIVATE "-l${VPN_SYSTEM_LIBRARIES}")
configure_file(cmake/${PROJECT_NAME}.pc.in "${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${PROJECT_NAME}.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" ${DEVELOPMENT})
