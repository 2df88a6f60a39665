"""Files for other systems: readings out in the public formats, or in the columns that a billing system wants.

Charter: which readings go into which file (`export`), FK7 and text files (`public_files`), what they say
beside their words (`headers`, `runs`), where files go (`target`), profiles of columns (`import_profile`,
`import_profiles/*.toml`), and what a registry file may say (`registry_rules`). The octets of a format are
`protocols.public_format`'s; files that come in are sessions, see `collector.files`.
"""
