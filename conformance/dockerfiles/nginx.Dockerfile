FROM nginx:1.27
COPY --chown=nginx:nginx --link html/ /usr/share/nginx/html/
COPY nginx.conf /etc/nginx/nginx.conf
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD curl -f http://localhost/ || exit 1
