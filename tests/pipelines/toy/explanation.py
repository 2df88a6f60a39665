"""How smf trace shows a line."""


class LineExplanation:
    def in_one_line(self, session_id, place):
        return f"session {session_id}, frame {place.frame_seq}, octet {place.first_octet}"

    def show(self, node, place):
        node.add(f"toy line in frame {place.frame_seq}: {place.octets.decode()} = {place.pulses} pulses")


LINE = LineExplanation()
