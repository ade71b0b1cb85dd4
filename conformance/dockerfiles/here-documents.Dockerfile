FROM scratch
ARG WHO=world
RUN <<EOF
set -e
echo "hello $WHO"
EOF
RUN python3 <<-PY > /out
	print("hi")
	PY
RUN <<script.py
#!/usr/bin/env python3
print(1)
script.py
RUN cat <<ONE > /1 && cat <<TWO > /2
1 \
ONE
2
TWO
COPY <<motd <<"plain" /etc/
Hello ${WHO:-nobody}, it's "you"
motd
$WHO
plain
