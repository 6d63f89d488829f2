"""Names of interface classes, and names and types of their attributes and methods (IEC 62056-6-2).

For people to read: the protocol goes by numbers. A type ``CHOICE`` depends on the object.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CHOICE = "CHOICE"


class ClassNames(NamedTuple):
    """One interface class."""

    title: str
    attributes: dict[int, tuple[str, str]]
    """Name and type by number."""
    methods: dict[int, str]


_SHORT = {
    "u8": "unsigned",
    "u16": "long-unsigned",
    "u32": "double-long-unsigned",
    "i8": "integer",
    "i16": "long",
    "octets": "octet-string",
    "text": "visible-string",
    "bits": "bit-string",
    "bool": "boolean",
    "any": CHOICE,
}
_ATTRIBUTE = re.compile(r"(\w+):([\w-]+)")


def _names(title: str, attributes: str, methods: str = "") -> ClassNames:
    """Return the class whose attributes, from 2 on, and methods, from 1 on, are listed in order."""
    found = _ATTRIBUTE.findall(f"logical_name:octets {attributes}")
    return ClassNames(
        title,
        {index: (name, _SHORT.get(kind, kind)) for index, (name, kind) in enumerate(found, 1)},
        dict(enumerate(methods.split(), 1)),
    )


CLASSES = {
    1: _names("Data", "value:any"),
    3: _names("Register", "value:any scaler_unit:structure", "reset"),
    4: _names("Extended register", "value:any scaler_unit:structure status:any capture_time:octets", "reset"),
    5: _names(
        "Demand register",
        "current_average_value:any last_average_value:any scaler_unit:structure status:any capture_time:octets"
        " start_time_current:octets period:u32 number_of_periods:u16",
        "reset next_period",
    ),
    6: _names(
        "Register activation",
        "register_assignment:array mask_list:array active_mask:octets",
        "add_register add_mask delete_mask",
    ),
    7: _names(
        "Profile generic",
        "buffer:array capture_objects:array capture_period:u32 sort_method:enum sort_object:structure"
        " entries_in_use:u32 profile_entries:u32",
        "reset capture",
    ),
    8: _names(
        "Clock",
        "time:octets time_zone:i16 status:u8 daylight_savings_begin:octets daylight_savings_end:octets"
        " daylight_savings_deviation:i8 daylight_savings_enabled:bool clock_base:enum",
        "adjust_to_quarter adjust_to_measuring_period adjust_to_minute adjust_to_preset_time"
        " preset_adjusting_time shift_time",
    ),
    9: _names("Script table", "scripts:array", "execute"),
    10: _names("Schedule", "entries:array", "enable_disable insert delete"),
    11: _names("Special days table", "entries:array", "insert delete"),
    12: _names(
        "Association SN",
        "object_list:array access_rights_list:array security_setup_reference:octets user_list:array"
        " current_user:structure",
    ),
    15: _names(
        "Association LN",
        "object_list:array associated_partners_id:structure application_context_name:octets"
        " xDLMS_context_info:structure authentication_mechanism_name:octets secret:octets association_status:enum"
        " security_setup_reference:octets user_list:array current_user:structure",
        "reply_to_HLS_authentication change_HLS_secret add_object remove_object add_user remove_user",
    ),
    17: _names("SAP assignment", "SAP_assignment_list:array", "connect_logical_device"),
    18: _names(
        "Image transfer",
        "image_block_size:u32 image_transferred_blocks_status:bits image_first_not_transferred_block_number:u32"
        " image_transfer_enabled:bool image_transfer_status:enum image_to_activate_info:array",
        "image_transfer_initiate image_block_transfer image_verify image_activate",
    ),
    19: _names(
        "IEC local port setup",
        "default_mode:enum default_baud:enum prop_baud:enum response_time:enum device_addr:octets pass_p1:octets"
        " pass_p2:octets pass_w5:octets",
    ),
    20: _names(
        "Activity calendar",
        "calendar_name_active:octets season_profile_active:array week_profile_table_active:array"
        " day_profile_table_active:array calendar_name_passive:octets season_profile_passive:array"
        " week_profile_table_passive:array day_profile_table_passive:array activate_passive_calendar_time:octets",
        "activate_passive_calendar",
    ),
    21: _names("Register monitor", "thresholds:array monitored_value:structure actions:array", ""),
    22: _names("Single action schedule", "executed_script:structure type:enum execution_time:array"),
    23: _names(
        "IEC HDLC setup",
        "comm_speed:enum window_size_transmit:u8 window_size_receive:u8 max_info_field_length_transmit:u16"
        " max_info_field_length_receive:u16 inter_octet_time_out:u16 inactivity_time_out:u16 device_address:u16",
    ),
    41: _names(
        "TCP-UDP setup", "TCP_UDP_port:u16 IP_reference:octets MSS:u16 nb_of_sim_conn:u8 inactivity_time_out:u16"
    ),
    42: _names(
        "IPv4 setup",
        "DL_reference:octets IP_address:u32 multicast_IP_address:array IP_options:array subnet_mask:u32"
        " gateway_IP_address:u32 use_DHCP_flag:bool primary_DNS_address:u32 secondary_DNS_address:u32",
        "add_mc_IP_address delete_mc_IP_address get_nbof_mc_IP_addresses",
    ),
    62: _names(
        "Compact data",
        "compact_buffer:octets capture_objects:array template_id:u8 template_description:octets"
        " capture_method:enum",
        "reset capture",
    ),
    64: _names(
        "Security setup",
        "security_policy:enum security_suite:enum client_system_title:octets server_system_title:octets"
        " certificates:array",
        "security_activate key_transfer key_agreement generate_key_pair generate_certificate_request"
        " import_certificate export_certificate remove_certificate",
    ),
    70: _names(
        "Disconnect control",
        "output_state:bool control_state:enum control_mode:enum",
        "remote_disconnect remote_reconnect",
    ),
    71: _names(
        "Limiter",
        "monitored_value:structure threshold_active:u32 threshold_normal:u32 threshold_emergency:u32"
        " min_over_threshold_duration:u32 min_under_threshold_duration:u32 emergency_profile:structure"
        " emergency_profile_group_id_list:array emergency_profile_active:bool actions:structure",
        "",
    ),
    90: _names(
        "G3-PLC MAC layer counters",
        "mac_Tx_data_packet_count:u32 mac_Rx_data_packet_count:u32 mac_Tx_cmd_packet_count:u32"
        " mac_Rx_cmd_packet_count:u32 mac_CSMA_fail_count:u32 mac_CSMA_no_ACK_count:u32 mac_bad_CRC_count:u32"
        " mac_Tx_data_broadcast_count:u32 mac_Rx_data_broadcast_count:u32",
        "reset",
    ),
    91: _names(
        "G3-PLC MAC setup",
        "mac_short_address:u16 mac_RC_coord:u16 mac_PAN_id:u16 mac_key_table:array mac_frame_counter:u32"
        " mac_tone_mask:bits mac_TMR_TTL:u8 mac_max_frame_retries:u8 mac_POS_table_entry_TTL:u8"
        " mac_neighbour_table:array mac_high_priority_window_size:u8 mac_CSMA_fairness_limit:u8"
        " mac_beacon_randomization_window_length:u8 mac_A:u8 mac_K:u8 mac_min_CW_attempts:u8"
        " mac_cenelec_legacy_mode:u8 mac_FCC_legacy_mode:u8 mac_max_BE:u8 mac_max_CSMA_backoffs:u8 mac_min_BE:u8"
        " mac_broadcast_max_CW_enabled:bool mac_transmit_atten:u8 mac_POS_table:array"
        " mac_duplicate_detection_TTL:u8",
        "mac_get_neighbour_table_entry",
    ),
    92: _names(
        "G3-PLC 6LoWPAN adaptation layer setup",
        "adp_max_hops:u8 adp_weak_LQI_value:u8 adp_security_level:u8 adp_prefix_table:array"
        " adp_routing_configuration:array adp_broadcast_log_table_entry_TTL:u16 adp_routing_table:array"
        " adp_context_information_table:array adp_blacklist_table:array adp_broadcast_log_table:array"
        " adp_group_table:array adp_max_join_wait_time:u16 adp_path_discovery_time:u8 adp_active_key_index:u8"
        " adp_metric_type:u8 adp_coord_short_address:u16 adp_disable_default_routing:bool adp_device_type:enum"
        " adp_default_coord_route_enabled:bool adp_destination_address:array adp_low_LQI_value:u8"
        " adp_high_LQI_value:u8",
    ),
}
"""Interface classes by class_id."""
