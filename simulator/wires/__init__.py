"""What lies between a meter and its reader: bad lines (`impairment`, `faultplan`), gateways (`telnet`), units
that call (`dialer`), serving as a program (`running`), and an event loop in simulated time
(`virtual_time`).
"""
